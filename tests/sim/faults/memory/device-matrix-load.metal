// Rows 28 to 35 of a matrix of 32 rows.
// launch: 1 threadgroup of 32
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

kernel void copy_tile(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]]) {
  simdgroup_float8x8 tile;
#ifdef FIXED
  simdgroup_load(tile, x + 24 * 8, 8);
#else
  simdgroup_load(tile, x + 28 * 8, 8);  // expect: out-of-bounds
#endif
  simdgroup_store(tile, y, 8);
}
