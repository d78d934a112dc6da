// Data that stay within a simdgroup need no more than a simdgroup_barrier.
#include <metal_stdlib>
using namespace metal;

kernel void reverse_lanes(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[2][32];
  tile[simdgroup][lane] = x[i];
  simdgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = tile[simdgroup][31 - lane];
}
