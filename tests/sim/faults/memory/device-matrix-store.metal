// The destination is 8 columns wide, the stride given is 32.
// launch: 1 threadgroup of 32
// buffer tile: float32[64] output
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

kernel void copy_tile(
    device const float* x [[buffer(0)]],
    device float* tile [[buffer(1)]]) {
  simdgroup_float8x8 values;
  simdgroup_load(values, x, 32);
#ifdef FIXED
  simdgroup_store(values, tile, 8);
#else
  simdgroup_store(values, tile, 32);  // expect: out-of-bounds
#endif
}
