// Half of a simdgroup waits.
#include <metal_stdlib>
using namespace metal;

kernel void half_wait(
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  simdgroup_barrier(mem_flags::mem_threadgroup);
#else
  if (lane < 16) {
    simdgroup_barrier(mem_flags::mem_threadgroup);  // expect: divergent-barrier
  }
#endif
  y[i] = float(lane);
}
