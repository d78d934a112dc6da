// Two dynamic allocations: the first one is overrun, perhaps into the second.
// threadgroup memory 0: 128 bytes
// threadgroup memory 1: 256 bytes
#include <metal_stdlib>
using namespace metal;

kernel void stage(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    threadgroup float* low [[threadgroup(0)]],
    threadgroup float* all [[threadgroup(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  all[tid] = x[i];  // allow: threadgroup-race
#ifdef FIXED
  if (tid < 32) {
    low[tid] = x[i];
  }
#else
  low[tid] = x[i];  // expect: out-of-bounds; allow: threadgroup-race
#endif
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = low[tid % 32] + all[tid];
}
