// A thread reference cannot refer to device memory.
#include <metal_stdlib>
using namespace metal;

void increment(thread float& value) {
  value += 1.0f;
}

kernel void call(device float* y [[buffer(0)]]) {
#ifdef FIXED
  float value = y[0];
  increment(value);
  y[0] = value;
#else
  increment(y[0]);  // expect: compile
#endif
}
