// All vector positions of a kernel have the same number of components.
#include <metal_stdlib>
using namespace metal;

kernel void assign(
    device float* y [[buffer(0)]],
#ifdef FIXED
    uint3 group [[threadgroup_position_in_grid]],
#else
    uint2 group [[threadgroup_position_in_grid]],
#endif
    uint3 i [[thread_position_in_grid]]) {  // expect: position-type
  y[i.x + group.y] = 1.0f;
}
