// A component chosen at run time, within range.
#include <metal_stdlib>
using namespace metal;

kernel void components(
    device const float4* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  float4 four = x[i / 4];
  four[(i + 1) % 4] += 1.0f;
  y[i] = four[i % 4];
}
