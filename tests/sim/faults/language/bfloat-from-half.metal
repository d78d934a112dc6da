// Nor is there an implicit way between the two 16-bit types.
#include <metal_stdlib>
using namespace metal;

kernel void convert(
    device const half* x [[buffer(0)]],
    device bfloat* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = bfloat(float(x[i]));
#else
  y[i] = x[i];  // expect: compile
#endif
}
