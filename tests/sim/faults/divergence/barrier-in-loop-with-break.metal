// A thread that has found what it looked for leaves the loop, and the others wait for it.
#include <metal_stdlib>
using namespace metal;

kernel void search(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float found = 0.0f;
  for (uint turn = 0; turn < n; turn++) {
    if (found == 0.0f && x[(i + turn) % 256] > 0.5f) {
      found = float(turn + 1);
#ifndef FIXED
      break;
#endif
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);  // expect: divergent-barrier, divergent-exit
  }
  y[i] = found;
}
