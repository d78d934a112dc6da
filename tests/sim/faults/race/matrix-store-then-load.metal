// The second simdgroup reads the tile that the first one stores.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

kernel void hand_over(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]]) {
  threadgroup float tile[64];
  simdgroup_float8x8 values;
  if (simdgroup == 0) {
    simdgroup_load(values, x, 8);
    simdgroup_store(values, tile, 8);  // expect: threadgroup-race
  }
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  if (simdgroup == 1) {
    simdgroup_load(values, tile, 8);  // expect: threadgroup-race; allow: uninitialised-read
    simdgroup_store(values, y + 64 * group, 8);
  }
}
