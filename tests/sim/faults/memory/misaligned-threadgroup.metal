// A word is read from bytes 1 to 4.
#include <metal_stdlib>
using namespace metal;

kernel void word(
    device float* y [[buffer(0)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup uint words[16];
  threadgroup uchar* bytes = (threadgroup uchar*)words;
  bytes[tid] = uchar(tid);
  threadgroup_barrier(mem_flags::mem_threadgroup);
#ifdef FIXED
  y[i] = float(*(threadgroup const uint*)(bytes + 4));
#else
  y[i] = float(*(threadgroup const uint*)(bytes + 1));  // expect: misaligned
#endif
}
