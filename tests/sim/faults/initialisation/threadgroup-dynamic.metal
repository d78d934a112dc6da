// Dynamic threadgroup memory is not zero either.
// threadgroup memory 0: 256 bytes
#include <metal_stdlib>
using namespace metal;

kernel void use_scratch(
    device float* y [[buffer(1)]],
    threadgroup float* scratch [[threadgroup(0)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  scratch[tid] = 1.0f;
#endif
  scratch[tid] += 1.0f;  // expect: uninitialised-read
  y[i] = scratch[tid];
}
