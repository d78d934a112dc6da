// Two halves taken in turn need one barrier for each.
#include <metal_stdlib>
using namespace metal;

kernel void accumulate(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[2][64];
  float sum = 0.0f;
  for (uint turn = 0; turn < 2 * n; turn++) {
    tile[turn % 2][tid] = x[i] * float(turn);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sum += tile[turn % 2][63 - tid];
  }
  y[i] = sum;
}
