// 32 KB exactly: half declared, half given by the launch.
// threadgroup memory 0: 16384 bytes
#include <metal_stdlib>
using namespace metal;

kernel void stage(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    threadgroup float* scratch [[threadgroup(0)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[4096];
  tile[4095 - tid] = x[i];
  scratch[4095 - tid] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = tile[4032 + tid] + scratch[4032 + tid];
}
