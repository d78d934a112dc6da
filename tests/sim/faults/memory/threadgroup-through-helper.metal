// The helper's stride of 4 reaches beyond the tile.
#include <metal_stdlib>
using namespace metal;

void scatter(threadgroup float* tile, uint tid, uint stride, float value) {
  tile[tid * stride] = value;  // expect: out-of-bounds
}

kernel void spread(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[128];
#ifdef FIXED
  uint stride = 2;
#else
  uint stride = 4;
#endif
  scatter(tile, tid, stride, x[i]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = tile[4 * (tid % 4)];
}
