// Explicit conversions between all the widths, and implicit ones between float and half.
// buffer h: float16[256]
// buffer b: bfloat16[256]
#include <metal_stdlib>
using namespace metal;

kernel void convert(
    device const half* h [[buffer(0)]],
    device const bfloat* b [[buffer(1)]],
    device float* y [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  half narrow = h[i] * half(2.0f);
  bfloat brain = bfloat(float(h[i])) + static_cast<bfloat>(1.0f);
  half back = float(b[i]);
  float wide = b[i];
  y[i] = wide + narrow + float(brain) + back;
}
