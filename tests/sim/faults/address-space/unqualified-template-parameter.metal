// In a template, too.
#include <metal_stdlib>
using namespace metal;

template <typename T>
#ifdef FIXED
T first(thread const T* values) {
#else
T first(const T* values) {  // expect: unqualified-pointer
#endif
  return values[0];
}

kernel void call(device float* y [[buffer(0)]]) {
  float values[2] = {1.0f, 2.0f};
  y[0] = first(values);
}
