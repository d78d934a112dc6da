// A counter that all threads increment without an atomic operation.
// buffer counter: uint32[1] = 0
#include <metal_stdlib>
using namespace metal;

kernel void count(
    device const float* x [[buffer(0)]],
    device uint* counter [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  atomic_fetch_add_explicit((device atomic_uint*)counter, 1u, memory_order_relaxed);
#else
  if (x[i] >= 0.0f) {
    counter[0] += 1;  // expect: device-race
  }
#endif
}
