// An in-place operation that also needs the old value of the next element.
// buffer y: float32[256]
#include <metal_stdlib>
using namespace metal;

kernel void smooth(
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = 0.5f * y[i];
#else
  y[i] = 0.5f * (y[i] + y[min(i + 1, 255u)]);  // expect: device-race
#endif
}
