// The tile has 8 rows; threads 56 to 63 would need row 8.
#include <metal_stdlib>
using namespace metal;

kernel void transpose(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[8][9];
#ifdef FIXED
  uint row = tid / 8;
#else
  uint row = tid / 8 + 1;
#endif
  tile[row][tid % 8] = x[i];  // expect: out-of-bounds
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = tile[row][tid % 8];  // expect: out-of-bounds
}
