// Lambdas that capture and that do not.
#include <metal_stdlib>
using namespace metal;

kernel void apply(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  auto square = [](float value) { return value * value; };
  auto load = [&](uint index) { return x[index]; };
  y[i] = square(load(i)) + load(255 - i);
}
