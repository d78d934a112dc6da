// A literal without suffix is a float in Metal.
#include <metal_stdlib>
using namespace metal;

kernel void scale(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  y[i] = x[i] * 0.1 + 2.0;
}
