// Nothing to give back either.
#include <metal_stdlib>
using namespace metal;

kernel void release(device float* y [[buffer(0)]]) {
  y[0] = 1.0f;
#ifndef FIXED
  delete y;  // expect: unsupported-keyword; allow: compile
#endif
}
