// The first thread reads the element before the start.
#include <metal_stdlib>
using namespace metal;

kernel void difference(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  int previous = int(i) - 1;
#ifdef FIXED
  previous = max(previous, 0);
#endif
  y[i] = x[i] - x[previous];  // expect: out-of-bounds
}
