// One of the cases waits.
#include <metal_stdlib>
using namespace metal;

kernel void cases(
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  float value = 0.0f;
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  switch (tid % 3) {
    case 0:
      value = 1.0f;
      break;
    case 1:
#ifndef FIXED
      threadgroup_barrier(mem_flags::mem_threadgroup);  // expect: divergent-barrier
#endif
      value = 2.0f;
      break;
    default:
      value = 3.0f;
  }
  y[i] = value;
}
