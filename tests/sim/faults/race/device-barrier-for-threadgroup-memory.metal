// The data are in device memory; mem_threadgroup does not order them.
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
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_device);
#else
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  y[i] = staging[64 * group + 63 - tid];  // expect: device-race
}
