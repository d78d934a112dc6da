// Thread 63 reads tile[64].
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
#ifdef FIXED
  y[i] = tile[tid] + tile[min(tid + 1, 63u)];
#else
  y[i] = tile[tid] + tile[tid + 1];  // expect: out-of-bounds
#endif
}
