// All threads of the grid count in one place.
// buffer counter: uint32[1] = 0
#include <metal_stdlib>
using namespace metal;

kernel void count(
    device const float* x [[buffer(0)]],
    device atomic_uint* counter [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  if (x[i] > 0.5f) {
    atomic_fetch_add_explicit(counter, 1u, memory_order_relaxed);
  }
}
