// Threads beyond the end leave; no one waits for them.
// buffer n: uint32 = 200
#include <metal_stdlib>
using namespace metal;

kernel void scale(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  if (i >= n) {
    return;
  }
  y[i] = 2.0f * x[i];
}
