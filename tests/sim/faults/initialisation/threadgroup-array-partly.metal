// The last element is not written.
#include <metal_stdlib>
using namespace metal;

kernel void reverse(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
#ifdef FIXED
  tile[tid] = x[i];
#else
  if (tid < 63) {
    tile[tid] = x[i];
  }
#endif
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = tile[63 - tid];  // expect: uninitialised-read
}
