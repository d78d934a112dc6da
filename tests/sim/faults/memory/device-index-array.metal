// One entry of the table of rows is out of range.
// buffer rows: uint32[4] = 0 64 192 256
#include <metal_stdlib>
using namespace metal;

kernel void gather(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    device const uint* rows [[buffer(2)]],
    uint group [[threadgroup_position_in_grid]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uint row = min(rows[group], 192u);
#else
  uint row = rows[group];
#endif
  y[i] = x[row + tid];  // expect: out-of-bounds
}
