// Threads of one threadgroup exchange values through device memory.
#include <metal_stdlib>
using namespace metal;

kernel void reverse(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    device float* staging [[buffer(3)]],
    uint tid [[thread_position_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]],
    uint i [[thread_position_in_grid]]) {
  staging[i] = x[i];
  threadgroup_barrier(mem_flags::mem_device);
  y[i] = staging[64 * group + 63 - tid];
}
