// An offset taken for an address.
#include <metal_stdlib>
using namespace metal;

kernel void dereference(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  device const float* p = x + 16;
#else
  device const float* p = (device const float*)16ul;
#endif
  y[i] = *p;  // expect: out-of-bounds
}
