// A float4 is no float3.
#include <metal_stdlib>
using namespace metal;

kernel void mix_up(device const float4* x [[buffer(0)]], device float* y [[buffer(1)]]) {
#ifdef FIXED
  float3 three = x[0].xyz;
#else
  float3 three = x[0];  // expect: compile
#endif
  y[0] = three.x;
}
