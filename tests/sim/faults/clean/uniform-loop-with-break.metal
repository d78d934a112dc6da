// The vote is the same for all lanes, so they leave the loop together.
#include <metal_stdlib>
using namespace metal;

kernel void halve_until_small(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  float value = x[i];
  for (uint turn = 0; turn < 100; turn++) {
    if (simd_all(value < 0.01f)) {
      break;
    }
    value *= 0.5f;
  }
  y[i] = value;
}
