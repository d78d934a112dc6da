// Every threadgroup waits for the one after it, which starts only when this one has ended.
// launch: 64 threadgroups of 32
// buffer y: float32[2048] output
// buffer done: uint32[64] = 0
// timeout: 1
#include <metal_stdlib>
using namespace metal;

kernel void backwards(
    device float* y [[buffer(0)]],
    device atomic_uint* done [[buffer(1)]],
    uint group [[threadgroup_position_in_grid]],
    uint groups [[threadgroups_per_grid]],
    uint i [[thread_position_in_grid]]) {
#ifndef FIXED
  if (group + 1 < groups) {
    while (atomic_load_explicit(&done[group + 1], memory_order_relaxed) == 0) {  // expect: deadlock
    }
  }
#endif
  atomic_store_explicit(&done[group], 1u, memory_order_relaxed);
  y[i] = float(groups);
}
