// Both branches add, but each for itself.
#include <metal_stdlib>
using namespace metal;

kernel void sums(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  float value = x[i];
#ifdef FIXED
  value = simd_sum(i % 2 == 0 ? value : -value);
#else
  if (i % 2 == 0) {
    value = simd_sum(value);  // expect: divergent-simd-op
  } else {
    value = simd_sum(-value);  // expect: divergent-simd-op
  }
#endif
  y[i] = value;
}
