// The grid covers 256 threads, the data 200.
// buffer x: float32[200]
// buffer y: float32[200] output
// buffer n: uint32 = 200
#include <metal_stdlib>
using namespace metal;

kernel void scale(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  if (i >= n) {
    return;
  }
#endif
  y[i] = 2.0f * x[i];  // expect: out-of-bounds
}
