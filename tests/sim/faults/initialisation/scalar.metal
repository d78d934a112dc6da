// The sum starts from nothing.
#include <metal_stdlib>
using namespace metal;

kernel void total(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  float sum = 0.0f;
#else
  float sum;
#endif
  sum += x[i];  // expect: uninitialised
  y[i] = sum;
}
