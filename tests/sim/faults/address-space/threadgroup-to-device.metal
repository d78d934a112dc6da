// A threadgroup pointer is no device pointer.
#include <metal_stdlib>
using namespace metal;

kernel void assign(device float* y [[buffer(0)]], threadgroup float* scratch [[threadgroup(0)]]) {
#ifdef FIXED
  device float* p = y;
#else
  device float* p = scratch;  // expect: compile
#endif
  p[0] = 1.0f;
}
