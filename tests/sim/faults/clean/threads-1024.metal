// The largest threadgroup there is.
// launch: 1 threadgroup of 1024
// buffer x: float32[1024]
// buffer y: float32[1024] output
#include <metal_stdlib>
using namespace metal;

[[max_total_threads_per_threadgroup(1024)]] kernel void reverse(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]]) {
  threadgroup float tile[1024];
  tile[tid] = x[tid];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[tid] = tile[1023 - tid];
}
