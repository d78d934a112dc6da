// An ordinary syntax error.
#include <metal_stdlib>
using namespace metal;

kernel void assign(device float* y [[buffer(0)]]) {
#ifdef FIXED
  y[0] = 1.0f;
#else
  y[0] = 1.0f  // expect: compile
#endif
}
