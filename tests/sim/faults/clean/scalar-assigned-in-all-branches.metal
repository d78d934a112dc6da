// Whichever way is taken, the value is set.
#include <metal_stdlib>
using namespace metal;

kernel void choose(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float value;
  if (n == 0) {
    value = 0.0f;
  } else if (n == 1) {
    value = x[i];
  } else {
    value = -x[i];
  }
  y[i] = value;
}
