// An output is accumulated into before anything has been written to it.
#include <metal_stdlib>
using namespace metal;

kernel void accumulate(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = 0.0f;
#endif
  y[i] += x[i];  // expect: uninitialised-read
}
