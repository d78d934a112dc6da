// The index in the simdgroup is one number.
#include <metal_stdlib>
using namespace metal;

kernel void assign(
    device float* y [[buffer(0)]],
#ifdef FIXED
    uint2 lane [[thread_position_in_threadgroup]]) {
#else
    uint2 lane [[thread_index_in_simdgroup]]) {  // expect: position-type
#endif
  y[lane.x] = 1.0f;
}
