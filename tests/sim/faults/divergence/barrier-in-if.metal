// Only some threads reach the barrier.
#include <metal_stdlib>
using namespace metal;

kernel void half_wait(
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#else
  if (tid < 16) {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // expect: divergent-barrier
  }
#endif
  y[i] = 1.0f;
}
