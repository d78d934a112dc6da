// Threadgroup memory has 31 entries as well.
// allow: compile
#include <metal_stdlib>
using namespace metal;

kernel void assign(
#ifdef FIXED
    threadgroup float* scratch [[threadgroup(30)]],
#else
    threadgroup float* scratch [[threadgroup(31)]],  // expect: buffer-index
#endif
    uint i [[thread_position_in_grid]]) {
  scratch[i] = 1.0f;
}
