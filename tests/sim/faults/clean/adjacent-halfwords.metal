// Two threads write the halves of one word.
// buffer halves: uint16[256] output
#include <metal_stdlib>
using namespace metal;

kernel void halves(
    device ushort* halves [[buffer(0)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup ushort tile[64];
  tile[tid] = ushort(i);
  halves[i] = tile[tid];
}
