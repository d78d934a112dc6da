// Lanes beyond the end have left when the others add.
// buffer n: uint32 = 200
#include <metal_stdlib>
using namespace metal;

kernel void sums(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  float value = i < n ? x[i] : 0.0f;
#else
  if (i >= n) {
    return;
  }
  float value = x[i];
#endif
  float sum = simd_sum(value);  // expect: divergent-simd-op, divergent-exit
  if (i < n) {
    y[i] = sum;
  }
}
