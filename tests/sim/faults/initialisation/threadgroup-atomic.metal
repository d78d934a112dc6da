// A counter in threadgroup memory that starts with whatever was there.
#include <metal_stdlib>
using namespace metal;

kernel void count(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup atomic_uint counter;
#ifdef FIXED
  if (tid == 0) {
    atomic_store_explicit(&counter, 0u, memory_order_relaxed);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  atomic_fetch_add_explicit(&counter, 1u, memory_order_relaxed);  // expect: uninitialised-read
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = float(atomic_load_explicit(&counter, memory_order_relaxed)) + x[i];  // allow: uninitialised-read
}
