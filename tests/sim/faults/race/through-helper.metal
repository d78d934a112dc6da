// Both accesses are in helpers; the barrier that should lie between them is nowhere.
#include <metal_stdlib>
using namespace metal;

void put(threadgroup float* tile, uint index, float value) {
  tile[index] = value;  // expect: threadgroup-race
}

float get(threadgroup const float* tile, uint index) {
  return tile[index];  // expect: threadgroup-race; allow: uninitialised-read
}

kernel void reverse(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[64];
  put(tile, tid, x[i]);
#ifdef FIXED
  threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
  y[i] = get(tile, 63 - tid);
}
