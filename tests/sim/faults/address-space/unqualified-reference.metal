// Which memory does the reference refer to?
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
void clear(thread float& value) {
#else
void clear(float& value) {  // expect: unqualified-pointer
#endif
  value = 0.0f;
}

kernel void call(device float* y [[buffer(0)]]) {
  float value = 1.0f;
  clear(value);
  y[0] = value;
}
