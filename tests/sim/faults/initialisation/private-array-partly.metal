// Three of four elements are filled, all four added.
#include <metal_stdlib>
using namespace metal;

kernel void four(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float values[4];
#ifdef FIXED
  for (uint j = 0; j < 4; j++) {
    values[j] = j < n ? x[j] : 0.0f;
  }
#else
  for (uint j = 0; j < n; j++) {
    values[j] = x[j];
  }
#endif
  float sum = 0.0f;
  for (uint j = 0; j < 4; j++) {
    sum += values[j];  // expect: uninitialised-read
  }
  y[i] = sum;
}
