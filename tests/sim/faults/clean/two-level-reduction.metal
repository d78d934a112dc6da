// Sums of the simdgroups, and then their sum in the first simdgroup.
#include <metal_stdlib>
using namespace metal;

kernel void reduce(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint group [[threadgroup_position_in_grid]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float partial[32];
  float sum = simd_sum(x[i]);
  if (lane == 0) {
    partial[simdgroup] = sum;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup == 0) {
    sum = simd_sum(lane < simdgroups ? partial[lane] : 0.0f);
    if (lane == 0) {
      y[group] = sum;
    }
  }
}
