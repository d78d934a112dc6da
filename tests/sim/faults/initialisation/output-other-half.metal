// Only the even elements have been written when all are read.
#include <metal_stdlib>
using namespace metal;

kernel void pairs(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = x[i];
#else
  if (i % 2 == 0) {
    y[i] = x[i];
  }
#endif
  float written = y[i];  // expect: uninitialised-read
  y[i] = 2.0f * written;
}
