// A float becomes a bfloat by an explicit conversion only.
#include <metal_stdlib>
using namespace metal;

kernel void narrow(
    device const float* x [[buffer(0)]],
    device bfloat* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = bfloat(x[i]);
#else
  y[i] = x[i];  // expect: compile
#endif
}
