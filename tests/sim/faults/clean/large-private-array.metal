// Eight kilobytes of a thread's own memory.
#include <metal_stdlib>
using namespace metal;

kernel void table(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  float table[2048];
  for (uint j = 0; j < 2048; j += 8) {
    table[j] = x[j / 8];
  }
  y[i] = table[8 * i];
}
