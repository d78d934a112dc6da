// softmax of each row: two reductions over the simdgroups of a threadgroup, in the same memory.
#include <metal_stdlib>

using namespace metal;

constant constexpr uint MAX_SIMDGROUPS = 32;

kernel void softmax_rows(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& width [[buffer(2)]],
    uint row [[threadgroup_position_in_grid]],
    uint index [[thread_index_in_threadgroup]],
    uint threads [[threads_per_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float partial[MAX_SIMDGROUPS];
  x += row * width;
  y += row * width;

  float most = -INFINITY;
  for (uint i = index; i < width; i += threads) {
    most = max(most, x[i]);
  }
  most = simd_max(most);
  if (lane == 0) {
    partial[simdgroup] = most;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = 0; i < simdgroups; i++) {
    most = max(most, partial[i]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup); // all have read `partial`, which is written again

  float sum = 0.0f;
  for (uint i = index; i < width; i += threads) {
    sum += exp(x[i] - most);
  }
  sum = simd_sum(sum);
  if (lane == 0) {
    partial[simdgroup] = sum;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float total = 0.0f;
  for (uint i = 0; i < simdgroups; i++) {
    total += partial[i];
  }
  for (uint i = index; i < width; i += threads) {
    y[i] = exp(x[i] - most) / total;
  }
}
