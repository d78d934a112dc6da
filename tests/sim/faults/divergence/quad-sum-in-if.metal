// Two of the four threads of a quad add.
#include <metal_stdlib>
using namespace metal;

kernel void quads(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  float value = x[i];
#ifdef FIXED
  float sum = quad_sum(value);
  if (i % 4 < 2) {
    value = sum;
  }
#else
  if (i % 4 < 2) {
    value = quad_sum(value);  // expect: divergent-simd-op
  }
#endif
  y[i] = value;
}
