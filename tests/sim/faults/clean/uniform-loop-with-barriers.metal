// The number of turns is the same for all threads of a threadgroup, if not of the grid.
#include <metal_stdlib>
using namespace metal;

kernel void accumulate(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  float sum = 0.0f;
  for (uint turn = 0; turn <= group; turn++) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    tile[tid] = x[i] + float(turn);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sum += tile[63 - tid];
  }
  y[i] = sum;
}
