// The result would have to be converted.
#include <metal_stdlib>
using namespace metal;

bfloat narrow(float value) {
#ifdef FIXED
  return static_cast<bfloat>(value);
#else
  return value;  // expect: compile
#endif
}

kernel void call(
    device const float* x [[buffer(0)]],
    device bfloat* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  y[i] = narrow(x[i]);
}
