// The template deduces the element type, not the address space.
#include <metal_stdlib>
using namespace metal;

template <typename T>
T first(threadgroup const T* values) {
  return values[0];
}

kernel void call(device float* y [[buffer(0)]], threadgroup float* scratch [[threadgroup(0)]]) {
#ifdef FIXED
  y[1] = first(scratch);
#else
  y[1] = first(y);  // expect: compile
#endif
}
