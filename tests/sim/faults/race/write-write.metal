// Two simdgroups write the same elements.
#include <metal_stdlib>
using namespace metal;

kernel void fold(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[32];
#ifdef FIXED
  if (tid < 32) {
    tile[tid] = x[i];
  }
#else
  tile[tid % 32] = x[i];  // expect: threadgroup-race
#endif
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = tile[tid % 32];
}
