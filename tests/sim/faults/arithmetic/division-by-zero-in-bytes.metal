// The divisor is an 8-bit value widened to an int.
// buffer divisors: uint8[4] = 1 2 0 4
#include <metal_stdlib>
using namespace metal;

kernel void ratio(
    device float* y [[buffer(0)]],
    device const uchar* divisors [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uchar divisor = max(divisors[i % 4], uchar(1));
#else
  uchar divisor = divisors[i % 4];
#endif
  y[i] = float(60 / divisor);  // expect: division-by-zero
}
