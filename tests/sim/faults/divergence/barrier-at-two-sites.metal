// Two barriers in the branches of an if are not one barrier.
#include <metal_stdlib>
using namespace metal;

kernel void two_sites(
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#else
  if (tid < 32) {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // expect: divergent-barrier
  } else {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // expect: divergent-barrier
  }
#endif
  y[i] = float(tid);
}
