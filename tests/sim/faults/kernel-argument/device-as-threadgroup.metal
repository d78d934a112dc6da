// [[threadgroup(i)]] is for threadgroup pointers.
// allow: compile
#include <metal_stdlib>
using namespace metal;

kernel void assign(
#ifdef FIXED
    threadgroup float* scratch [[threadgroup(0)]],
#else
    device float* scratch [[threadgroup(0)]],  // expect: kernel-argument
#endif
    uint i [[thread_position_in_grid]]) {
  scratch[i] = 1.0f;
}
