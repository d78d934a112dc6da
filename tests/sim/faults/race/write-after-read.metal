// Shifting in place: a thread may overwrite what its neighbour has yet to read.
#include <metal_stdlib>
using namespace metal;

kernel void rotate(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  tile[tid] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float next = tile[(tid + 1) % 64];  // expect: threadgroup-race
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  tile[tid] = next;  // expect: threadgroup-race
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = tile[63 - tid];
}
