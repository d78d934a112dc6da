// Nothing to print to.
#include <metal_stdlib>
using namespace metal;

kernel void debug(device float* y [[buffer(0)]]) {
  y[0] = 1.0f;
#ifndef FIXED
  printf("%f", y[0]);  // expect: compile
#endif
}
