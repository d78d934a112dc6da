// The divisor is checked before it is used.
#include <metal_stdlib>
using namespace metal;

kernel void ratio(
    device float* y [[buffer(0)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  uint quotient = i == 0 ? 0 : 1000 / i;
  y[i] = float(quotient % n) + 1.0f / float(i);
}
