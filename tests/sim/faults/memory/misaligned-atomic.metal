// An atomic word at half a word.
// buffer counters: uint32[4] = 0
#include <metal_stdlib>
using namespace metal;

kernel void count(
    device uint* counters [[buffer(0)]],
    uint i [[thread_position_in_grid]]) {
  device uchar* bytes = (device uchar*)counters;
#ifdef FIXED
  device atomic_uint* counter = (device atomic_uint*)(bytes + 4);
#else
  device atomic_uint* counter = (device atomic_uint*)(bytes + 2);
#endif
  atomic_fetch_add_explicit(counter, i, memory_order_relaxed);  // expect: misaligned
}
