// A C-style cast from device to threadgroup.
#include <metal_stdlib>
using namespace metal;

kernel void cast(device float* y [[buffer(0)]]) {
#ifdef FIXED
  device uint* p = (device uint*)y;
#else
  threadgroup uint* p = (threadgroup uint*)y;  // expect: compile
#endif
  p[0] = 1u;
}
