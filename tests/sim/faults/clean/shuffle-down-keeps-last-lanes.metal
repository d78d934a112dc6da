// The highest lane of a shuffle down keeps its own value.
#include <metal_stdlib>
using namespace metal;

kernel void differences(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  y[i] = x[i] - simd_shuffle_down(x[i], 1);
}
