// Branches and loops of different length, in which nothing waits.
#include <metal_stdlib>
using namespace metal;

kernel void collatz(
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  uint value = i + 1;
  uint steps = 0;
  while (value != 1) {
    value = value % 2 == 0 ? value / 2 : 3 * value + 1;
    steps++;
  }
  y[i] = float(steps);
}
