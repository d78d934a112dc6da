// A cast does not help: address spaces cannot be converted.
#include <metal_stdlib>
using namespace metal;

kernel void cast(device const float* x [[buffer(0)]], device float* y [[buffer(1)]]) {
#ifdef FIXED
  device const uint* p = (device const uint*)x;
#else
  constant uint* p = (constant uint*)x;  // expect: device-to-constant
#endif
  y[0] = float(p[0]);
}
