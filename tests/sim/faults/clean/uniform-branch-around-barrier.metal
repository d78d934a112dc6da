// The condition comes from a constant: all threads wait or none does.
#include <metal_stdlib>
using namespace metal;

kernel void maybe_reverse(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  float value = x[i];
  if (n == 3) {
    tile[tid] = value;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    value = tile[63 - tid];
  }
  y[i] = value;
}
