// The element before the first of an array in registers.
// buffer n: uint32 = 3
#include <metal_stdlib>
using namespace metal;

kernel void previous(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float values[4] = {x[i], 1.0f, 2.0f, 3.0f};
  int index = 3 - int(n);
#ifndef FIXED
  index -= 1;
#endif
  y[i] = values[index];  // expect: out-of-bounds
}
