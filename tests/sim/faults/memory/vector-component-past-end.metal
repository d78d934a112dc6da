// A float4 has no component 4.
#include <metal_stdlib>
using namespace metal;

kernel void pick(
    device const float4* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float4 four = x[i / 4];
#ifdef FIXED
  y[i] = four[n];
#else
  y[i] = four[n + 1];  // expect: out-of-bounds
#endif
}
