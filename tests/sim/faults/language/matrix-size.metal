// A simdgroup matrix has 8 rows and 8 columns.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

kernel void load(device const float* x [[buffer(0)]], device float* y [[buffer(1)]]) {
#ifdef FIXED
  simdgroup_matrix<float, 8, 8> tile;
#else
  simdgroup_matrix<float, 16, 8> tile;  // expect: compile
#endif
  simdgroup_load(tile, x, 8);  // allow: compile
  simdgroup_store(tile, y, 8);  // allow: compile
}
