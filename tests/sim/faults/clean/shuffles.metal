// Every shuffle stays in range and finds all lanes there.
#include <metal_stdlib>
using namespace metal;

kernel void shuffles(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]],
    uint i [[thread_position_in_grid]]) {
  float value = x[i];
  value += simd_shuffle(value, ushort(31 - lane));
  value += simd_shuffle_xor(value, 16);
  value += simd_shuffle_rotate_up(value, 1);
  value += simd_shuffle_and_fill_down(value, 0.0f, 1);
  value += simd_broadcast(value, 5) + simd_broadcast_first(value);
  y[i] = value;
}
