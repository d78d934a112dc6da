// i - 1 is computed in 32 unsigned bits: 4294967295 for the first thread.
#include <metal_stdlib>
using namespace metal;

kernel void difference(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = i > 0 ? x[i] - x[i - 1] : x[i];
#else
  y[i] = x[i] - x[i - 1];  // expect: out-of-bounds
#endif
}
