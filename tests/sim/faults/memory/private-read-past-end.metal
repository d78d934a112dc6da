// values[4] of four, by an index that only the run knows.
// buffer n: uint32 = 4
#include <metal_stdlib>
using namespace metal;

kernel void pick(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float values[4];
  for (uint j = 0; j < 4; j++) {
    values[j] = x[(i + j) % 256];
  }
#ifdef FIXED
  y[i] = values[n - 1];
#else
  y[i] = values[n];  // expect: out-of-bounds
#endif
}
