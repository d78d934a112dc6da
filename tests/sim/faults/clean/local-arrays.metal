// Arrays that are filled before they are read, in several ways.
#include <metal_stdlib>
using namespace metal;

struct Accumulator {
  float values[4];

  Accumulator() thread {
    for (int j = 0; j < 4; j++) {
      values[j] = 0.0f;
    }
  }
};

kernel void fill(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float zeros[4] = {0.0f};
  float looped[4];
  for (int j = 0; j < 4; j++) {
    looped[j] = x[(i + j) % 256];
  }
  float copied[2][4];
  for (int j = 0; j < 4; j++) {
    copied[0][j] = looped[j];
    copied[1][j] = looped[3 - j];
  }
  Accumulator accumulator;
  accumulator.values[n] += copied[n % 2][n];
  y[i] = zeros[n] + looped[n] + copied[1][n] + accumulator.values[n] + accumulator.values[0];
}
