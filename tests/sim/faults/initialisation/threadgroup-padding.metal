// The row's padding is read along with the row.
#include <metal_stdlib>
using namespace metal;

kernel void rows(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[8][9];
  tile[tid / 8][tid % 8] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
#ifdef FIXED
  y[i] = tile[tid / 8][7 - tid % 8];
#else
  y[i] = tile[tid / 8][8 - tid % 8];  // expect: uninitialised-read
#endif
}
