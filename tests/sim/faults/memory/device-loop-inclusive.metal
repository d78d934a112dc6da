// <= where < is meant.
// buffer n: uint32 = 256
#include <metal_stdlib>
using namespace metal;

kernel void total(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float sum = 0.0f;
#ifdef FIXED
  for (uint j = 192; j < n; j++) {
#else
  for (uint j = 192; j <= n; j++) {
#endif
    sum += x[j];  // expect: out-of-bounds
  }
  y[i] = sum;
}
