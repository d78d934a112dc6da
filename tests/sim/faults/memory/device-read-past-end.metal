// The last thread reads the element after the end.
#include <metal_stdlib>
using namespace metal;

kernel void shift(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = x[i];
#else
  y[i] = x[i + 1];  // expect: out-of-bounds
#endif
}
