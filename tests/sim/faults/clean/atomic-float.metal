// Floating-point sums, in whatever order.
// buffer total: float32[1] = 0
#include <metal_stdlib>
using namespace metal;

kernel void total(
    device const float* x [[buffer(0)]],
    device atomic_float* total [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(total, x[i], memory_order_relaxed);
}
