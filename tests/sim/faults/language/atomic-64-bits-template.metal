// The same, spelt as a template.
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
kernel void count(device atomic<uint>* counter [[buffer(0)]]) {
#else
kernel void count(device atomic<ulong>* counter [[buffer(0)]]) {  // expect: atomic-64-bit
#endif
  atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}
