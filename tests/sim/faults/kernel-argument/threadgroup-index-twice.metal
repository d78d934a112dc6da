// Two dynamic allocations at one index.
#include <metal_stdlib>
using namespace metal;

kernel void assign(
    threadgroup float* low [[threadgroup(0)]],
#ifdef FIXED
    threadgroup float* high [[threadgroup(1)]],
#else
    threadgroup float* high [[threadgroup(0)]],  // expect: buffer-index
#endif
    uint i [[thread_position_in_grid]]) {
  low[i] = 1.0f;
  high[i] = 2.0f;
}
