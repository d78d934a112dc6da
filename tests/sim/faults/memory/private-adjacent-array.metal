// `low` is overrun; `high` may lie behind it.
// buffer n: uint32 = 5
#include <metal_stdlib>
using namespace metal;

kernel void two_arrays(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float low[4] = {x[i], 1.0f, 2.0f, 3.0f};
  float high[4] = {4.0f, 5.0f, 6.0f, 7.0f};
#ifdef FIXED
  uint j = n % 4;
#else
  uint j = n;
#endif
  low[j] = -1.0f;  // expect: out-of-bounds
  high[n % 4] += 1.0f;
  y[i] = low[n % 4] + high[0] + high[1];
}
