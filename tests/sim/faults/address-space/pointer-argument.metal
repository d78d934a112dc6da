// The function wants threadgroup memory and is given device memory.
#include <metal_stdlib>
using namespace metal;

void clear(threadgroup float* values) {
  values[0] = 0.0f;
}

kernel void call(device float* y [[buffer(0)]], threadgroup float* scratch [[threadgroup(0)]]) {
#ifdef FIXED
  clear(scratch);
#else
  clear(y);  // expect: compile
#endif
  y[0] = 1.0f;
}
