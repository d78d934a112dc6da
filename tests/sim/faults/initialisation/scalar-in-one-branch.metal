// Only one branch assigns a value.
#include <metal_stdlib>
using namespace metal;

kernel void choose(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  float value;
#ifdef FIXED
  value = 0.0f;
#endif
  if (x[i] > 0.5f) {  // expect: uninitialised
    value = x[i];
  }
  y[i] = value;
}
