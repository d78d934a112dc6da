// Counters that nobody has set to zero.
// buffer bins: uint32[4] output
#include <metal_stdlib>
using namespace metal;

kernel void histogram(
    device const float* x [[buffer(0)]],
    device atomic_uint* bins [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  if (i < 4) {
    atomic_store_explicit(&bins[i], uint(x[i] * 4.0f), memory_order_relaxed);
  }
#else
  atomic_fetch_add_explicit(&bins[uint(x[i] * 4.0f) % 4], 1u, memory_order_relaxed);  // expect: uninitialised-read
#endif
}
