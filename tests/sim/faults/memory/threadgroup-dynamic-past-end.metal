// The launch gives 256 bytes, the kernel writes from element 1 on.
// threadgroup memory 0: 256 bytes
#include <metal_stdlib>
using namespace metal;

kernel void stage(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    threadgroup float* scratch [[threadgroup(0)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uint slot = tid;
#else
  uint slot = tid + 1;
#endif
  scratch[slot] = x[i];  // expect: out-of-bounds
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = scratch[slot];  // expect: out-of-bounds
}
