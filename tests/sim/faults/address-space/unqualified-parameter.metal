// Which memory does the pointer point to?
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
void clear(device float* values) {
#else
void clear(float* values) {  // expect: unqualified-pointer
#endif
  values[0] = 0.0f;
}

kernel void call(device float* y [[buffer(0)]]) {
  clear(y);
}
