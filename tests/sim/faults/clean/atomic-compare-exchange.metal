// A maximum by compare and exchange.
// buffer largest: uint32[1] = 0
#include <metal_stdlib>
using namespace metal;

kernel void maximum(
    device const float* x [[buffer(0)]],
    device atomic_uint* largest [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  uint value = uint(x[i] * 1000.0f);
  uint seen = atomic_load_explicit(largest, memory_order_relaxed);
  while (seen < value) {
    if (atomic_compare_exchange_weak_explicit(largest, &seen, value, memory_order_relaxed, memory_order_relaxed)) {
      break;
    }
  }
}
