// 200 threads in threadgroups of 64: the last one has eight.
// launch: 200 threads, threadgroups of 64
// buffer x: float32[200]
// buffer y: float32[200] output
#include <metal_stdlib>
using namespace metal;

kernel void reverse(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint size [[threads_per_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  tile[tid] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = tile[size - 1 - tid];
}
