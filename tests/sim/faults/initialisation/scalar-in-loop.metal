// A loop of no turns leaves the value unset.
#include <metal_stdlib>
using namespace metal;

kernel void last(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  float value = 0.0f;
#else
  float value;
#endif
  for (uint j = 0; j < n; j++) {
    value = x[(i + j) % 256];
  }
  y[i] = value;  // expect: uninitialised
}
