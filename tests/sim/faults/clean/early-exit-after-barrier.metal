// Threads may leave as they like once nothing waits any more.
#include <metal_stdlib>
using namespace metal;

kernel void first_of_group(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  tile[tid] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (tid != 0) {
    return;
  }
  y[i] = tile[63];
}
