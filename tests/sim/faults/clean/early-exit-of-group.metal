// A whole threadgroup leaves before the barrier: the condition is the same for all its threads.
// buffer n: uint32 = 2
#include <metal_stdlib>
using namespace metal;

kernel void reverse(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint tid [[thread_position_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  if (group >= n) {
    return;
  }
  tile[tid] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = tile[63 - tid];
}
