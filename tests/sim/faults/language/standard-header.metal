// Nor are its headers.
#ifndef FIXED
#include <vector>  // expect: compile
#endif
#include <metal_stdlib>
using namespace metal;

kernel void assign(device float* y [[buffer(0)]]) {
  y[0] = 1.0f;
}
