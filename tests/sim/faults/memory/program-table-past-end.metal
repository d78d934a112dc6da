// A table in the program, indexed by three bits though it has six entries.
#include <metal_stdlib>
using namespace metal;

constant float levels[6] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f};

kernel void dequantise(
    device float* y [[buffer(0)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = levels[min(i & 7, 5u)];
#else
  y[i] = levels[i & 7];  // expect: out-of-bounds
#endif
}
