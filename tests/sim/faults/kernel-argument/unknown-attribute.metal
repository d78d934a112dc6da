// A misspelt position.
// allow: compile
#include <metal_stdlib>
using namespace metal;

kernel void assign(
    device float* y [[buffer(0)]],
#ifdef FIXED
    uint i [[thread_position_in_grid]]) {
#else
    uint i [[thread_position_in_gird]]) {  // expect: unknown-attribute
#endif
  y[i] = 1.0f;
}
