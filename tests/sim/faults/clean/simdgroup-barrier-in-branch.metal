// One simdgroup waits for itself while the other does something else.
#include <metal_stdlib>
using namespace metal;

kernel void one_side(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[32];
  float value = x[i];
  if (simdgroup == 0) {
    tile[lane] = value;
    simdgroup_barrier(mem_flags::mem_threadgroup);
    value = tile[31 - lane];
  }
  y[i] = value;
}
