// 8x8 matrices from device and threadgroup memory.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

kernel void multiply(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint tid [[thread_position_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]]) {
  threadgroup float tile[64];
  tile[tid] = x[64 + tid];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup == 0) {
    simdgroup_float8x8 a;
    simdgroup_float8x8 b;
    simdgroup_float8x8 c = make_filled_simdgroup_matrix<float, 8>(0.0f);
    simdgroup_load(a, x, 8);
    simdgroup_load(b, tile, 8, ulong2(0, 0), true);
    simdgroup_multiply_accumulate(c, a, b, c);
    simdgroup_store(c, y + 64 * group, 8);
  }
}
