// Lane 20 does not take part in the shuffle that reads its value.
#include <metal_stdlib>
using namespace metal;

kernel void shuffle(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]],
    uint i [[thread_position_in_grid]]) {
  float value = x[i];
#ifdef FIXED
  float other = simd_shuffle(value, 20);
  if (lane < 16) {
    value = other;
  }
#else
  if (lane < 16) {
    value = simd_shuffle(value, 20);  // expect: shuffle-from-inactive-lane; allow: divergent-simd-op
  }
#endif
  y[i] = value;
}
