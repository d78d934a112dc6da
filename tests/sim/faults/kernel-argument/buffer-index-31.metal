// The argument table has 31 entries.
// allow: compile
#include <metal_stdlib>
using namespace metal;

kernel void assign(
#ifdef FIXED
    device float* y [[buffer(30)]],
#else
    device float* y [[buffer(31)]],  // expect: buffer-index
#endif
    uint i [[thread_position_in_grid]]) {
  y[i] = 1.0f;
}
