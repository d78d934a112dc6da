// The const is cast away from an input, which is then overwritten.
#include <metal_stdlib>
using namespace metal;

kernel void in_place(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = 2.0f * x[i];
#else
  device float* writable = const_cast<device float*>(x);
  writable[i] = 2.0f * x[i];  // expect: write-to-constant
  y[i] = 0.0f;
#endif
}
