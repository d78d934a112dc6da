// The second operand of the last thread lies after the end.
// buffer h: float16[256]
#include <metal_stdlib>
using namespace metal;

kernel void add_neighbour(
    device const half* h [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = float(h[i]) + float(h[i ^ 1]);
#else
  y[i] = float(h[i]) + float(h[i + 1]);  // expect: out-of-bounds
#endif
}
