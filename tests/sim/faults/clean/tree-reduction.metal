// The barrier is outside the branch, in the loop.
#include <metal_stdlib>
using namespace metal;

kernel void reduce(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float partial[64];
  partial[tid] = x[i];
  for (uint step = 32; step > 0; step /= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (tid < step) {
      partial[tid] += partial[tid + step];
    }
  }
  if (tid == 0) {
    y[group] = partial[0];
  }
}
