// A function that returns a pointer to it knows not what.
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
device float* advance(device float* values) {
#else
float* advance(device float* values) {  // expect: unqualified-pointer
#endif
  return values + 1;  // allow: compile
}

kernel void call(device float* y [[buffer(0)]]) {
  *advance(y) = 1.0f;
}
