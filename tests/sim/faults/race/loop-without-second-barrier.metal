// The next turn of the loop refills the tile while slower threads still read it.
#include <metal_stdlib>
using namespace metal;

kernel void accumulate(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  float sum = 0.0f;
  for (uint turn = 0; turn < n; turn++) {
    tile[tid] = x[i] + float(turn);  // expect: threadgroup-race
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sum += tile[63 - tid];  // expect: threadgroup-race
#ifdef FIXED
    threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  }
  y[i] = sum;
}
