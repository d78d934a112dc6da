// The function expects a constant pointer.
#include <metal_stdlib>
using namespace metal;

float first(constant float* values) {
  return values[0];
}

kernel void call(
    device const float* x [[buffer(0)]],
    constant float* table [[buffer(1)]],
    device float* y [[buffer(2)]]) {
#ifdef FIXED
  y[0] = first(table) + x[0];
#else
  y[0] = first(x);  // expect: device-to-constant
#endif
}
