// Nobody has written the scratch memory.
#include <metal_stdlib>
using namespace metal;

kernel void use_scratch(
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float scratch[64];
#ifdef FIXED
  scratch[tid] = 0.0f;
#endif
  y[i] = scratch[tid];  // expect: uninitialised-read
}
