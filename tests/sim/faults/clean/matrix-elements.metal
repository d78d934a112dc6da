// A fragment filled through thread_elements, lane by lane.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

kernel void scale(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]]) {
  simdgroup_matrix<float, 8, 8> tile;
  tile.thread_elements()[0] = x[2 * lane];
  tile.thread_elements()[1] = x[2 * lane + 1];
  simdgroup_matrix<float, 8, 8> identity = simdgroup_matrix<float, 8, 8>(1.0f);
  simdgroup_matrix<float, 8, 8> product;
  simdgroup_multiply(product, tile, identity);
  if (simdgroup == 0) {
    simdgroup_store(product, y + 64 * group, 8);
  }
}
