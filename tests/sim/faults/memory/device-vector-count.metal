// There are 64 vectors of four, not 256.
#include <metal_stdlib>
using namespace metal;

kernel void first_components(
    device const float4* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = x[i / 4].x;
#else
  y[i] = x[i].x;  // expect: out-of-bounds
#endif
}
