// The lowest lanes of a shuffle up keep their own value.
#include <metal_stdlib>
using namespace metal;

kernel void differences(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]],
    uint i [[thread_position_in_grid]]) {
  float value = x[i];
  float left = simd_shuffle_up(value, 1);
  y[i] = lane == 0 ? value : value - left;
}
