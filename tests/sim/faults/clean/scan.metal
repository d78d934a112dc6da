// Prefix sums within simdgroups, completed across them.
#include <metal_stdlib>
using namespace metal;

kernel void scan(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float totals[2];
  float prefix = simd_prefix_inclusive_sum(x[i]);
  if (lane == 31) {
    totals[simdgroup] = prefix;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint s = 0; s < simdgroup; s++) {
    prefix += totals[s];
  }
  y[i] = prefix;
}
