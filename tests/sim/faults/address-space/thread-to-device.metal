// The address of a local variable is no device pointer.
#include <metal_stdlib>
using namespace metal;

kernel void assign(device float* y [[buffer(0)]]) {
  float local_value = 1.0f;
#ifdef FIXED
  thread float* p = &local_value;
#else
  device float* p = &local_value;  // expect: compile
#endif
  y[0] = *p;
}
