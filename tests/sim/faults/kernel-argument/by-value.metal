// Scalars come by constant reference.
// allow: compile
#include <metal_stdlib>
using namespace metal;

kernel void scale(
    device float* y [[buffer(0)]],
#ifdef FIXED
    constant int& n [[buffer(1)]],
#else
    int n [[buffer(1)]],  // expect: kernel-argument
#endif
    uint i [[thread_position_in_grid]]) {
  y[i] *= float(n);
}
