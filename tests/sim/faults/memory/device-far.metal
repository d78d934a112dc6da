// 256 KB beyond the end: a wrong stride.
#include <metal_stdlib>
using namespace metal;

kernel void rows(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uint stride = 1;
#else
  uint stride = 65536;
#endif
  y[i] = x[(i + 1) % 256 * stride];  // expect: out-of-bounds
}
