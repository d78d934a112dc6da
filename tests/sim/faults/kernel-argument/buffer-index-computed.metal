// Indices may be constant expressions, and clash all the same.
#include <metal_stdlib>
using namespace metal;

#define FIRST 2
#ifdef FIXED
#define NEXT (FIRST + 1)
#else
#define NEXT (FIRST + 0)
#endif

kernel void copy(
    device const float* x [[buffer(FIRST)]],
    device float* y [[buffer(NEXT)]],  // expect: buffer-index
    uint i [[thread_position_in_grid]]) {
  y[i] = x[i];
}
