// 40 threads: the second simdgroup has eight lanes, which reduce among themselves.
// launch: 4 threadgroups of 40
#include <metal_stdlib>
using namespace metal;

kernel void sums(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  y[i] = simd_sum(x[i]);
}
