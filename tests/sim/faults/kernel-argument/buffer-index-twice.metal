// Two buffers at one index.
#include <metal_stdlib>
using namespace metal;

kernel void copy(
    device const float* x [[buffer(0)]],
#ifdef FIXED
    device float* y [[buffer(1)]],
#else
    device float* y [[buffer(0)]],  // expect: buffer-index
#endif
    uint i [[thread_position_in_grid]]) {
  y[i] = x[i];
}
