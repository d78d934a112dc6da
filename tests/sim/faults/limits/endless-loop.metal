// The step is zero, so the loop never ends.
// buffer n: uint32 = 0
// timeout: 1
#include <metal_stdlib>
using namespace metal;

kernel void count(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uint step = max(n, 1u);
#else
  uint step = n;
#endif
  for (uint j = 0; j < 8; j += step) {
    y[i] = x[j];  // expect: deadlock
  }
}
