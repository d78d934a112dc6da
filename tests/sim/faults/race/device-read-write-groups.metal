// A threadgroup reads the result of the one before it.
#include <metal_stdlib>
using namespace metal;

kernel void chain(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  y[i] = x[i];  // expect: device-race
#ifndef FIXED
  if (i >= 64) {
    y[i] += y[i - 64];  // expect: device-race; allow: uninitialised-read
  }
#endif
}
