// The divisor of the first thread is zero.
#include <metal_stdlib>
using namespace metal;

kernel void share(
    device float* y [[buffer(0)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uint parts = max(i, 1u);
#else
  uint parts = i;
#endif
  y[i] = float(256 / parts);  // expect: division-by-zero
}
