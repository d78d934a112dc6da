// row * stride exceeds 31 bits and turns negative.
#include <metal_stdlib>
using namespace metal;

kernel void gather(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  int row = int(i) * 40000000;
#ifdef FIXED
  row = int(i);
#endif
  y[i] = x[row];  // expect: out-of-bounds
}
