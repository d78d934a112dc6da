// Device memory is not constant memory either.
#include <metal_stdlib>
using namespace metal;

kernel void assign(device const float* x [[buffer(0)]], device float* y [[buffer(1)]]) {
#ifdef FIXED
  device const float* p = x;
#else
  constant float* p = x;  // expect: device-to-constant
#endif
  y[0] = p[0];
}
