// The helper scans; a lane that has nothing to add does not call it.
#include <metal_stdlib>
using namespace metal;

uint position(uint wanted) {
  return simd_prefix_exclusive_sum(wanted);  // expect: divergent-simd-op
}

kernel void compact(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  uint slot = 0;
#ifdef FIXED
  slot = position(x[i] > 0.5f ? 1 : 0);
#else
  if (x[i] > 0.5f) {
    slot = position(1);
  }
#endif
  y[i] = float(slot);
}
