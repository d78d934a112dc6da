// A whole simdgroup leaves before its own reduction.
#include <metal_stdlib>
using namespace metal;

kernel void sums(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  if (simdgroup == 1) {
    return;
  }
  y[i] = simd_sum(x[i]);
}
