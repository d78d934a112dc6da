// All lanes of a simdgroup write their own value to one place.
#include <metal_stdlib>
using namespace metal;

kernel void last_one_wins(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float winner[2];
#ifdef FIXED
  if (lane == 31) {
    winner[simdgroup] = x[i];
  }
#else
  winner[simdgroup] = x[i] + float(lane);  // expect: threadgroup-race
#endif
  simdgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = winner[simdgroup];
}
