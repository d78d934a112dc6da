// All threadgroups write the same 64 elements.
#include <metal_stdlib>
using namespace metal;

kernel void copy(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = x[i];
#else
  y[tid] = x[i];  // expect: device-race
#endif
}
