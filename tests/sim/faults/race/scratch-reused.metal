// The scratch of the first reduction is overwritten for the second while it is still read.
#include <metal_stdlib>
using namespace metal;

kernel void statistics(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float partial[2];
  float sum = simd_sum(x[i]);
  if (lane == 0) {
    partial[simdgroup] = sum;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float mean = (partial[0] + partial[1]) / 64.0f;  // expect: threadgroup-race
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  float deviation = simd_sum((x[i] - mean) * (x[i] - mean));
  if (lane == 0) {
    partial[simdgroup] = deviation;  // expect: threadgroup-race
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = (partial[0] + partial[1]) / 64.0f;
}
