// simd_shuffle needs a lane.
#include <metal_stdlib>
using namespace metal;

kernel void shuffle(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = simd_shuffle(y[i], 0);
#else
  y[i] = simd_shuffle(y[i]);  // expect: compile
#endif
}
