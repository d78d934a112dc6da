// Kernels return void.
// allow: compile
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
kernel void assign(device int* y [[buffer(0)]]) {
  y[0] = 1;
}
#else
kernel int assign(device int* y [[buffer(0)]]) {  // expect: kernel-result
  y[0] = 1;
  return 1;
}
#endif
