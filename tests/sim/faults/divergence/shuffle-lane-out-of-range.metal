// There is no lane 32.
#include <metal_stdlib>
using namespace metal;

kernel void shuffle(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = simd_shuffle(x[i], ushort((lane + 1) % 32));
#else
  y[i] = simd_shuffle(x[i], ushort(lane + 1));  // expect: shuffle-from-inactive-lane
#endif
}
