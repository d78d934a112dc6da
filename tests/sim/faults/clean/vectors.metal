// Vector loads and stores at aligned places, packed ones elsewhere.
#include <metal_stdlib>
using namespace metal;

kernel void vectors(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  if (i < 64) {
    float4 four = ((device const float4*)x)[i];
    packed_float3 three = *(device const packed_float3*)(x + i + 1);
    four.xyz += float3(three);
    ((device float4*)y)[i] = four.wzyx;
  }
}
