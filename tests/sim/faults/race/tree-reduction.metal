// The barrier belongs into the loop: each level reads what the level before wrote.
#include <metal_stdlib>
using namespace metal;

kernel void reduce(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float partial[64];
  partial[tid] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint step = 32; step > 0; step /= 2) {
    if (tid < step) {
      partial[tid] += partial[tid + step];  // expect: threadgroup-race
    }
#ifdef FIXED
    threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = partial[0];
}
