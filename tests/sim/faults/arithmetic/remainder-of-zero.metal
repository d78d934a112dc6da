// A signed remainder; the divisor is a parameter.
// buffer n: int32 = 0
#include <metal_stdlib>
using namespace metal;

kernel void wrap(
    device float* y [[buffer(0)]],
    constant int& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  int period = n == 0 ? 1 : n;
#else
  int period = n;
#endif
  y[i] = float((int(i) - 100) % period);  // expect: division-by-zero
}
