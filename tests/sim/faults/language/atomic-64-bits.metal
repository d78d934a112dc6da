// 64-bit atomics know only min and max, on some chips.
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
kernel void count(device atomic_uint* counter [[buffer(0)]]) {
  atomic_fetch_add_explicit(counter, 1u, memory_order_relaxed);
}
#else
kernel void count(device atomic_ulong* counter [[buffer(0)]]) {  // expect: atomic-64-bit
  atomic_fetch_add_explicit(counter, 1ul, memory_order_relaxed);
}
#endif
