// Each lane goes round the loop as often as its own value says.
#include <metal_stdlib>
using namespace metal;

kernel void maxima(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  float value = x[i];
#ifdef FIXED
  uint turns = 3;
#else
  uint turns = 1 + uint(4.0f * value);
#endif
  for (uint turn = 0; turn < turns; turn++) {
    value = simd_max(value * 0.5f);  // expect: divergent-simd-op
  }
  y[i] = value;
}
