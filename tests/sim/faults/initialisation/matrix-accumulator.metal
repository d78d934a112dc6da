// The accumulator of a matrix product is not set to zero.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>
using namespace metal;

kernel void multiply(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]]) {
  simdgroup_float8x8 a;
  simdgroup_float8x8 b;
#ifdef FIXED
  simdgroup_float8x8 c = make_filled_simdgroup_matrix<float, 8>(0.0f);
#else
  simdgroup_float8x8 c;
#endif
  simdgroup_load(a, x, 8);
  simdgroup_load(b, x + 64, 8);
  simdgroup_multiply_accumulate(c, a, b, c);  // expect: uninitialised-read
  if (simdgroup == 0) {
    simdgroup_store(c, y + 64 * group, 8);
  }
}
