// One of the operands was never loaded.
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
  simdgroup_float8x8 c;
  simdgroup_load(a, x, 8);
#ifdef FIXED
  simdgroup_load(b, x + 64, 8);
#endif
  simdgroup_multiply(c, a, b);  // expect: uninitialised-read
  if (simdgroup == 0) {
    simdgroup_store(c, y + 64 * group, 8);
  }
}
