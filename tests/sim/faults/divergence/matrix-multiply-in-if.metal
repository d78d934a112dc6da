// A matrix belongs to the whole simdgroup; half of it cannot multiply.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

kernel void multiply(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]]) {
  simdgroup_float8x8 a;
  simdgroup_float8x8 b;
  simdgroup_float8x8 c = make_filled_simdgroup_matrix<float, 8>(0.0f);
  simdgroup_load(a, x, 8);
  simdgroup_load(b, x + 64, 8);
#ifdef FIXED
  if (simdgroup == 0) {
    simdgroup_multiply_accumulate(c, a, b, c);
  }
#else
  if (lane < 16) {
    simdgroup_multiply_accumulate(c, a, b, c);  // expect: divergent-simd-op
  }
#endif
  if (simdgroup == 0) {
    simdgroup_store(c, y + 64 * group, 8);
  }
}
