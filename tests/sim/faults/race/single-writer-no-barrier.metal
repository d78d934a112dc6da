// One thread prepares what all others use.
#include <metal_stdlib>
using namespace metal;

kernel void centre(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float mean;
  if (tid == 0) {
    mean = 0.5f * (x[i] + x[i + 63]);  // expect: threadgroup-race
  }
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  y[i] = x[i] - mean;  // expect: threadgroup-race; allow: uninitialised-read
}
