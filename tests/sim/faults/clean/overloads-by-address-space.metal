// One name for three kinds of memory.
#include <metal_stdlib>
using namespace metal;

float first(device const float* values) {
  return values[0];
}

float first(threadgroup const float* values) {
  return values[0];
}

float first(thread const float* values) {
  return values[0];
}

kernel void firsts(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  tile[tid] = x[i];
  float own[1] = {x[i]};
  y[i] = first(x + i) + first(tile + tid) + first(own);
}
