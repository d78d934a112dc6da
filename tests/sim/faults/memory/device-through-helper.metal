// The access is in a function that the kernel calls.
#include <metal_stdlib>
using namespace metal;

float neighbour(device const float* values, uint i) {
  return values[i];  // expect: out-of-bounds
}

kernel void shift(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = neighbour(x, i);
#else
  y[i] = neighbour(x, i + 8);
#endif
}
