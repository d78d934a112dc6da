// References with address spaces, and types that the compiler deduces.
#include <metal_stdlib>
using namespace metal;

struct Pair {
  float first;
  float second;

  Pair swapped() const thread {
    return {second, first};
  }
};

void negate(thread Pair& pair) {
  pair.first = -pair.first;
}

kernel void pairs(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  device const float& value = x[i];
  auto pointer = x + i;
  Pair pair = {value, *pointer};
  negate(pair);
  const Pair other = pair.swapped();
  y[i] = other.first + other.second;
}
