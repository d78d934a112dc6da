// Any number of threads may read the same element.
#include <metal_stdlib>
using namespace metal;

kernel void scale(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  y[i] = x[0] * x[i] + x[255 - i];
}
