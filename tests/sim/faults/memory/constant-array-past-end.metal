// The table in the buffer has four entries.
// buffer table: float32[4]
#include <metal_stdlib>
using namespace metal;

kernel void look_up(
    constant float* table [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = table[i % 4];
#else
  y[i] = table[i % 5];  // expect: out-of-bounds
#endif
}
