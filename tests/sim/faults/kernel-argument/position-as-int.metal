// Signed integers are not accepted.
#include <metal_stdlib>
using namespace metal;

kernel void assign(
    device float* y [[buffer(0)]],
#ifdef FIXED
    uint i [[thread_position_in_grid]]) {
#else
    int i [[thread_position_in_grid]]) {  // expect: position-type
#endif
  y[i] = 1.0f;
}
