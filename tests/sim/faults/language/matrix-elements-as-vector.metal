// What thread_elements() refers to is no float2.
#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

kernel void twice(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]]) {
  simdgroup_float8x8 m;
#ifdef FIXED
  m.thread_elements()[0] = x[2 * lane];
  m.thread_elements()[1] = x[2 * lane + 1];
#else
  m.thread_elements() = float2(x[2 * lane], x[2 * lane + 1]);  // expect: compile
#endif
  y[2 * lane] = 2 * m.thread_elements()[0];
  y[2 * lane + 1] = 2 * m.thread_elements()[1];
}
