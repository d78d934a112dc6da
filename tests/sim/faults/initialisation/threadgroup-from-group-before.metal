// What an earlier threadgroup has left there does not count.
#include <metal_stdlib>
using namespace metal;

kernel void stale(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
#ifdef FIXED
  tile[tid] = x[i];
#else
  if (group == 0) {
    tile[tid] = x[i];
  }
#endif
  y[i] = tile[tid];  // expect: uninitialised-read
}
