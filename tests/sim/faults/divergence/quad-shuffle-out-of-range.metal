// A quad has lanes 0 to 3.
#include <metal_stdlib>
using namespace metal;

kernel void quads(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = quad_shuffle(x[i], ushort((i + 1) % 4));
#else
  y[i] = quad_shuffle(x[i], ushort(i % 4 + 1));  // expect: shuffle-from-inactive-lane
#endif
}
