// Thread 0 reads tile[-1].
#include <metal_stdlib>
using namespace metal;

kernel void pairs(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  tile[tid] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  int left = int(tid) - 1;
#ifdef FIXED
  left = max(left, 0);
#endif
  y[i] = tile[tid] + tile[left];  // expect: out-of-bounds
}
