// Vectors of different elements are not converted implicitly.
#include <metal_stdlib>
using namespace metal;

kernel void mix_up(device const uint4* x [[buffer(0)]], device float4* y [[buffer(1)]]) {
#ifdef FIXED
  y[0] = float4(x[0]);
#else
  y[0] = x[0];  // expect: compile
#endif
}
