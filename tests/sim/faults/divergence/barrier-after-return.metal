// The threads beyond the end have left when the others wait for them.
// buffer n: uint32 = 200
#include <metal_stdlib>
using namespace metal;

kernel void reverse(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
#ifdef FIXED
  tile[tid] = i < n ? x[i] : 0.0f;
#else
  if (i >= n) {
    return;
  }
  tile[tid] = x[i];
#endif
  threadgroup_barrier(mem_flags::mem_threadgroup);  // expect: divergent-barrier, divergent-exit
  if (i < n) {
    y[i] = tile[tid ^ 1];
  }
}
