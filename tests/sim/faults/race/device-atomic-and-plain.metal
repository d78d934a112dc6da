// Others may still add to the counter that is read without an atomic operation.
// buffer counter: uint32[1] = 0
#include <metal_stdlib>
using namespace metal;

kernel void count(
    device float* y [[buffer(0)]],
    device atomic_uint* counter [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(counter, 1u, memory_order_relaxed);  // expect: device-race
#ifdef FIXED
  y[i] = float(atomic_load_explicit(counter, memory_order_relaxed));
#else
  y[i] = float(*(device uint*)counter);  // expect: device-race
#endif
}
