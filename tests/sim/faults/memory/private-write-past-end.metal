// The loop runs once too often.
// buffer n: uint32 = 4
#include <metal_stdlib>
using namespace metal;

kernel void collect(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float values[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#ifdef FIXED
  for (uint j = 0; j < n; j++) {
#else
  for (uint j = 0; j <= n; j++) {
#endif
    values[j] = x[(i + j) % 256];  // expect: out-of-bounds
  }
  y[i] = values[0] + values[3];
}
