// A whole simdgroup does not reach the barrier.
#include <metal_stdlib>
using namespace metal;

kernel void one_waits(
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#else
  if (simdgroup == 0) {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // expect: divergent-barrier
  }
#endif
  y[i] = float(simdgroup);
}
