// Positions are unsigned integers.
// allow: compile
#include <metal_stdlib>
using namespace metal;

kernel void assign(
    device float* y [[buffer(0)]],
#ifdef FIXED
    uint i [[thread_position_in_grid]]) {
#else
    float i [[thread_position_in_grid]]) {  // expect: position-type
#endif
  y[uint(i)] = 1.0f;
}
