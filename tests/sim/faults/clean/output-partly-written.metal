// Not every element of an output has to be written.
#include <metal_stdlib>
using namespace metal;

kernel void evens(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  if (i % 2 == 0) {
    y[i] = x[i];
  }
}
