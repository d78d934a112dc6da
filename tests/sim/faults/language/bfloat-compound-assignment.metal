// bfloat * float is a float.
#include <metal_stdlib>
using namespace metal;

kernel void scale(
    device const float* x [[buffer(0)]],
    device bfloat* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = bfloat(float(y[i]) * x[i]);
#else
  y[i] *= x[i];  // expect: implicit-bfloat
#endif
}
