// Two halves save the second barrier of each turn, if one fills the other half.
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
  for (uint turn = 0; turn < n; turn++) {
#ifdef FIXED
    uint half_index = turn % 2;
#else
    uint half_index = turn / 2;
#endif
    tile[half_index][tid] = x[i] + float(turn);  // expect: threadgroup-race
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sum += tile[half_index][63 - tid];  // expect: threadgroup-race
  }
  y[i] = sum;
}
