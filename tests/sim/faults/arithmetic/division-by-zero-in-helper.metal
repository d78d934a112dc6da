// The helper rounds up to blocks; the block length of one row is zero.
// buffer lengths: uint32[4] = 16 8 0 4
#include <metal_stdlib>
using namespace metal;

uint blocks(uint size, uint length) {
  return (size + length - 1) / length;  // expect: division-by-zero
}

kernel void count(
    device float* y [[buffer(0)]],
    device const uint* lengths [[buffer(1)]],
    uint group [[threadgroup_position_in_grid]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uint length = max(lengths[group], 1u);
#else
  uint length = lengths[group];
#endif
  y[i] = float(blocks(100, length));
}
