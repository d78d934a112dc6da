// A new array in each turn, filled in each turn.
#include <metal_stdlib>
using namespace metal;

kernel void turns(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float sum = 0.0f;
  for (uint turn = 0; turn < n; turn++) {
    float values[4];
    for (uint j = 0; j < 4; j++) {
      values[j] = x[(i + j + turn) % 256];
    }
    sum += values[(turn + i) % 4];
  }
  y[i] = sum;
}
