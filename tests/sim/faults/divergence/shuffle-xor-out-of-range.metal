// A mask of 32 leads out of the simdgroup.
#include <metal_stdlib>
using namespace metal;

kernel void butterfly(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  float sum = x[i];
#ifdef FIXED
  for (ushort mask = 16; mask > 0; mask /= 2) {
#else
  for (ushort mask = 32; mask > 0; mask /= 2) {
#endif
    sum += simd_shuffle_xor(sum, mask);  // expect: shuffle-from-inactive-lane
  }
  y[i] = sum;
}
