// Even within a simdgroup, threads do not run in lock step.
#include <metal_stdlib>
using namespace metal;

kernel void swap_neighbours(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  tile[tid] = x[i];  // expect: threadgroup-race
#ifdef FIXED
  simdgroup_barrier(mem_flags::mem_threadgroup);
#endif
  y[i] = tile[tid ^ 1];  // expect: threadgroup-race; allow: uninitialised-read
}
