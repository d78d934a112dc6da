// Votes are among the lanes that happen to be there.
#include <metal_stdlib>
using namespace metal;

kernel void votes(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  float value = 0.0f;
  if (x[i] > 0.5f && simd_all(x[i] < 0.9f)) {
    value = simd_is_first() ? 2.0f : 1.0f;
  }
  y[i] = value;
}
