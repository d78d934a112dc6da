// A simdgroup_barrier that orders no memory.
#include <metal_stdlib>
using namespace metal;

kernel void swap_neighbours(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  tile[tid] = x[i];
#ifdef FIXED
  simdgroup_barrier(mem_flags::mem_threadgroup);
#else
  simdgroup_barrier(mem_flags::mem_none);
#endif
  y[i] = tile[tid ^ 1];  // expect: threadgroup-race
}
