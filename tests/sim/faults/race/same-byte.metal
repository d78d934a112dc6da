// Four threads combine their bits into one byte, without an atomic operation.
#include <metal_stdlib>
using namespace metal;

kernel void pack_bits(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup uchar bits[16];
  if (tid < 16) {
    bits[tid] = 0;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
#ifdef FIXED
  if (tid < 16) {
    bits[tid] |= uchar(x[i] > 0.5f);
  }
#else
  bits[tid / 4] |= uchar(x[i] > 0.5f) << (tid % 4);  // expect: threadgroup-race
#endif
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = float(bits[tid / 4]);
}
