// The simdgroups go different ways; within each, all lanes go the same.
#include <metal_stdlib>
using namespace metal;

kernel void specialise(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  float value = x[i];
  if (simdgroup == 0) {
    value = simd_sum(value);
  } else {
    value = simd_max(simd_min(value));
  }
  y[i] = value;
}
