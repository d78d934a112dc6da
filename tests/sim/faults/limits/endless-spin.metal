// A flag that nobody sets.
// buffer flag: uint32[1] = 0
// timeout: 1
#include <metal_stdlib>
using namespace metal;

kernel void wait_for_flag(
    device float* y [[buffer(0)]],
    device atomic_uint* flag [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  atomic_store_explicit(flag, 1u, memory_order_relaxed);
#endif
  while (atomic_load_explicit(flag, memory_order_relaxed) == 0) {  // expect: deadlock
  }
  y[i] = 1.0f;
}
