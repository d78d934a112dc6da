// The missing barrier, in memory that the launch provides.
// threadgroup memory 0: 256 bytes
#include <metal_stdlib>
using namespace metal;

kernel void reverse(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    threadgroup float* tile [[threadgroup(0)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  tile[tid] = x[i];  // expect: threadgroup-race
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  y[i] = tile[63 - tid];  // expect: threadgroup-race; allow: uninitialised-read
}
