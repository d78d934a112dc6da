// A thread sees its own writes without waiting.
#include <metal_stdlib>
using namespace metal;

kernel void own(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  tile[tid] = x[i];
  tile[tid] += 1.0f;
  y[i] = tile[tid];
  y[i] *= 2.0f;
}
