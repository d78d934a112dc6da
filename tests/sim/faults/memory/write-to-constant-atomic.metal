// An atomic counter in a buffer that the kernel declares const.
// buffer counts: uint32[4] = 0
#include <metal_stdlib>
using namespace metal;

kernel void count(
    device const uint* counts [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = float(counts[0]);
#else
  device atomic_uint* counter = (device atomic_uint*)counts;
  y[i] = float(atomic_fetch_add_explicit(counter, 1u, memory_order_relaxed));  // expect: write-to-constant
#endif
}
