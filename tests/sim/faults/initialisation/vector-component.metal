// Three of four components are set.
#include <metal_stdlib>
using namespace metal;

kernel void components(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float4 four;
  four.x = x[i];
  four.y = 1.0f;
  four.z = 2.0f;
#ifdef FIXED
  four.w = 3.0f;
#endif
  y[i] = four[n];  // expect: uninitialised-read
}
