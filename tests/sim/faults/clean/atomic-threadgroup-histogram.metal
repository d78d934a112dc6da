// Bins in threadgroup memory: cleared, filled and read, with a barrier between each.
// buffer bins: uint32[4] = 0
#include <metal_stdlib>
using namespace metal;

kernel void histogram(
    device const float* x [[buffer(0)]],
    device atomic_uint* bins [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup atomic_uint local_bins[4];
  if (tid < 4) {
    atomic_store_explicit(&local_bins[tid], 0u, memory_order_relaxed);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  atomic_fetch_add_explicit(&local_bins[uint(x[i] * 4.0f) % 4], 1u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (tid < 4) {
    uint count = atomic_load_explicit(&local_bins[tid], memory_order_relaxed);
    atomic_fetch_add_explicit(&bins[tid], count, memory_order_relaxed);
  }
}
