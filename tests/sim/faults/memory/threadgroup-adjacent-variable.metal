// The second half of the threads writes behind `low`, perhaps into `high`.
#include <metal_stdlib>
using namespace metal;

kernel void halves(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float low[32];
  threadgroup float high[32];
#ifdef FIXED
  if (tid < 32) {
    low[tid] = x[i];
  } else {
    high[tid - 32] = x[i];
  }
#else
  low[tid] = x[i];  // expect: out-of-bounds; allow: threadgroup-race
  if (tid < 32) {
    high[tid] = x[i];  // allow: threadgroup-race
  }
#endif
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = low[tid % 32] + high[tid % 32];
}
