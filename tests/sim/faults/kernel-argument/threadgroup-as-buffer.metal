// [[buffer(i)]] is for device and constant memory.
// allow: compile
#include <metal_stdlib>
using namespace metal;

kernel void assign(
    device float* y [[buffer(0)]],
#ifdef FIXED
    threadgroup float* scratch [[threadgroup(0)]],
#else
    threadgroup float* scratch [[buffer(1)]],  // expect: kernel-argument
#endif
    uint i [[thread_position_in_grid]]) {
  scratch[i] = 1.0f;
  y[i] = scratch[i];
}
