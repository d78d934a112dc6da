// A float4 at an address that is only a multiple of four.
#include <metal_stdlib>
using namespace metal;

kernel void second_four(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  float4 four = *(device const float4*)(x + 4);
#else
  float4 four = *(device const float4*)(x + 1);  // expect: misaligned
#endif
  y[i] = four.x + four.w;
}
