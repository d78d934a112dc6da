// The barrier hides in a helper that is called in one branch only.
#include <metal_stdlib>
using namespace metal;

void publish(threadgroup float* slot, float value) {
  *slot = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);  // expect: divergent-barrier
}

kernel void share(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
#ifdef FIXED
  publish(tile + tid, x[i]);
#else
  tile[tid] = 0.0f;
  if (x[i] > 0.5f) {
    publish(tile + tid, x[i]);
  }
#endif
  y[i] = tile[tid];
}
