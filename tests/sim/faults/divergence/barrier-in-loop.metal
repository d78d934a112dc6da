// The simdgroups go round the loop a different number of times.
#include <metal_stdlib>
using namespace metal;

kernel void uneven(
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uint turns = 3;
#else
  uint turns = simdgroup == 0 ? 2 : 3;
#endif
  for (uint turn = 0; turn < turns; turn++) {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // expect: divergent-barrier
  }
  y[i] = float(simdgroup);
}
