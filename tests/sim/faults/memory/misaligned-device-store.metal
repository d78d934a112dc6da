// A float2 is stored at every element, aligned at every second one.
#include <metal_stdlib>
using namespace metal;

kernel void pairs(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  if (i % 2 == 0) {
    *(device float2*)(y + i) = float2(x[i], x[i + 1]);
  }
#else
  if (i % 2 == 1 && i < 255) {
    *(device float2*)(y + i) = float2(x[i], x[i + 1]);  // expect: misaligned
  }
#endif
}
