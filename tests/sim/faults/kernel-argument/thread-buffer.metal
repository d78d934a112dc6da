// A buffer cannot lie in thread memory.
// allow: compile
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
kernel void assign(device float* y [[buffer(0)]]) {
#else
kernel void assign(thread float* y [[buffer(0)]]) {  // expect: kernel-argument
#endif
  y[0] = 1.0f;
}
