// The pointer is advanced once too often before it is read.
#include <metal_stdlib>
using namespace metal;

kernel void walk(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  device const float* p = x + i;
  float sum = *p;
#ifdef FIXED
  if (i < 255) {
    p++;
  }
#else
  p++;
#endif
  sum += *p;  // expect: out-of-bounds
  y[i] = sum;
}
