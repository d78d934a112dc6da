// The first thread writes before the start.
#include <metal_stdlib>
using namespace metal;

kernel void shift(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  device float* destination = y;
#ifndef FIXED
  destination -= 1;
#endif
  destination[i] = x[i];  // expect: out-of-bounds
}
