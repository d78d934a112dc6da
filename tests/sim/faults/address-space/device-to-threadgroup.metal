// A device pointer is no threadgroup pointer.
#include <metal_stdlib>
using namespace metal;

kernel void assign(device float* y [[buffer(0)]], threadgroup float* scratch [[threadgroup(0)]]) {
#ifdef FIXED
  threadgroup float* p = scratch;
#else
  threadgroup float* p = y;  // expect: compile
#endif
  p[0] = 1.0f;
}
