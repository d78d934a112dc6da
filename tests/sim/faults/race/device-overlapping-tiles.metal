// Tiles of 64 at a distance of 60 overlap by four elements.
#include <metal_stdlib>
using namespace metal;

kernel void tiles(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[64 * group + tid] = x[i];
#else
  y[60 * group + tid] = x[i];  // expect: device-race
#endif
}
