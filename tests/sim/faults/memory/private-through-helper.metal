// The helper is told that the array has n elements; it has two.
// buffer n: uint32 = 3
#include <metal_stdlib>
using namespace metal;

float sum(thread const float* values, uint count) {
  float total = 0.0f;
  for (uint j = 0; j < count; j++) {
    total += values[j];  // expect: out-of-bounds
  }
  return total;
}

kernel void pairs(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float values[2] = {x[i], 1.0f};
#ifdef FIXED
  y[i] = sum(values, n - 1);
#else
  y[i] = sum(values, n);
#endif
}
