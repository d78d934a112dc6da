// One case assigns nothing.
#include <metal_stdlib>
using namespace metal;

kernel void choose(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float value;
  switch (n) {
    case 0:
      value = x[i];
      break;
    case 1:
      value = -x[i];
      break;
    default:  // expect: uninitialised
#ifdef FIXED
      value = 0.0f;
#endif
      break;
  }
  y[i] = value;
}
