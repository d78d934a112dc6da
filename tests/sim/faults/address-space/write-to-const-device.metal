// The buffer is declared const.
#include <metal_stdlib>
using namespace metal;

kernel void assign(device const float* x [[buffer(0)]], device float* y [[buffer(1)]]) {
#ifdef FIXED
  y[0] = x[0];
#else
  x[0] = y[0];  // expect: compile
#endif
}
