// Half of the lanes add; the other half's values are missing.
#include <metal_stdlib>
using namespace metal;

kernel void sums(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]],
    uint i [[thread_position_in_grid]]) {
  float value = x[i];
#ifdef FIXED
  float sum = simd_sum(value);
  if (lane < 16) {
    value = sum;
  }
#else
  if (lane < 16) {
    value = simd_sum(value);  // expect: divergent-simd-op
  }
#endif
  y[i] = value;
}
