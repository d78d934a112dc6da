// The first simdgroup adds up the partial sums of all simdgroups before they are there.
#include <metal_stdlib>
using namespace metal;

kernel void reduce(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float partial[2];
  float sum = simd_sum(x[i]);
  if (lane == 0) {
    partial[simdgroup] = sum;  // expect: threadgroup-race
  }
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  if (simdgroup == 0 && lane < 2) {
    y[i] = partial[lane];  // expect: threadgroup-race; allow: uninitialised-read
  }
}
