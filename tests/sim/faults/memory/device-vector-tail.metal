// The vector that begins at the last three elements ends after the buffer.
#include <metal_stdlib>
using namespace metal;

kernel void sum_of_four(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uint start = min(i, 252u);
#else
  uint start = i;
#endif
  packed_float4 four = *(device const packed_float4*)(x + start);  // expect: out-of-bounds
  y[i] = four[0] + four[1] + four[2] + four[3];
}
