// The tile has room for one 8x8 matrix; the store begins at its second row.
// launch: 1 threadgroup of 32
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

kernel void stage(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float tile[64];
  tile[lane] = 0.0f;
  tile[lane + 32] = 0.0f;
  simdgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_float8x8 values;
  simdgroup_load(values, x, 8);
#ifdef FIXED
  simdgroup_store(values, tile, 8);
#else
  simdgroup_store(values, tile + 8, 8);  // expect: out-of-bounds
#endif
  simdgroup_barrier(mem_flags::mem_threadgroup);
  y[lane] = tile[lane];
}
