// The argument would have to be converted.
#include <metal_stdlib>
using namespace metal;

bfloat twice(bfloat value) {
  return value + value;
}

kernel void call(
    device const float* x [[buffer(0)]],
    device bfloat* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = twice(bfloat(x[i]));
#else
  y[i] = twice(x[i]);  // expect: compile
#endif
}
