// One element short for 64 threads.
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
constant constexpr uint size = 64;
#else
constant constexpr uint size = 63;
#endif

kernel void reverse(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[size];
  tile[tid] = x[i];  // expect: out-of-bounds
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = tile[62 - min(tid, 62u)];
}
