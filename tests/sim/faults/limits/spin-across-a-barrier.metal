// One simdgroup spins for a flag that the other sets after a barrier, where it waits for the first.
// timeout: 1
#include <metal_stdlib>
using namespace metal;

kernel void hand_over(
    device float* y [[buffer(0)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup atomic_uint flag;
  if (tid == 0) {
    atomic_store_explicit(&flag, 0u, memory_order_relaxed);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
#ifdef FIXED
  atomic_store_explicit(&flag, 1u, memory_order_relaxed);
#endif
  if (simdgroup == 1) {
    while (atomic_load_explicit(&flag, memory_order_relaxed) == 0) {  // expect: deadlock
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  atomic_store_explicit(&flag, 1u, memory_order_relaxed);
  y[i] = 1.0f;
}
