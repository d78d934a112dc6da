// The counter is reset by a plain store while others already count.
// allow: uninitialised-read
#include <metal_stdlib>
using namespace metal;

kernel void count(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup atomic_uint counter;
  if (tid == 0) {
    *(threadgroup uint*)&counter = 0;  // expect: threadgroup-race
  }
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  if (x[i] > 0.5f) {
    atomic_fetch_add_explicit(&counter, 1u, memory_order_relaxed);  // expect: threadgroup-race
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = float(atomic_load_explicit(&counter, memory_order_relaxed));
}
