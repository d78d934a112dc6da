// Quads reduce and shuffle among themselves.
#include <metal_stdlib>
using namespace metal;

kernel void quads(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint quad_lane [[thread_index_in_quadgroup]],
    uint i [[thread_position_in_grid]]) {
  float sum = quad_sum(x[i]);
  y[i] = sum + quad_shuffle_xor(x[i], 1) + quad_shuffle(x[i], ushort(3 - quad_lane));
}
