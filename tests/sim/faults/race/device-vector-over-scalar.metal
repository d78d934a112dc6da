// Vectors of four are written over elements that other threads write one by one.
#include <metal_stdlib>
using namespace metal;

kernel void fill(
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  if (i % 4 == 0) {
    *(device packed_float4*)(y + i) = packed_float4(1.0f);  // expect: device-race
  }
#else
  if (i % 4 == 0) {
    *(device packed_float4*)(y + i) = packed_float4(1.0f);  // expect: device-race
  } else {
    y[i] = 2.0f;  // expect: device-race
  }
#endif
}
