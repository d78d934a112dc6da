// The index of the first thread is -1.
// buffer table: float32[4]
#include <metal_stdlib>
using namespace metal;

kernel void look_up(
    constant float* table [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  int entry = int(i % 4);
#ifndef FIXED
  entry -= 1;
#endif
  y[i] = table[entry];  // expect: out-of-bounds
}
