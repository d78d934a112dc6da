// An output may be read where this thread has written it.
#include <metal_stdlib>
using namespace metal;

kernel void accumulate(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  y[i] = 0.0f;
  for (uint j = 0; j < n; j++) {
    y[i] += x[(i + j) % 256];
  }
}
