// The last threadgroup to finish adds up the others' sums, which nothing has made visible to it.
// buffer finished: uint32[1] = 0
// buffer sums: float32[4] output
#include <metal_stdlib>
using namespace metal;

kernel void total(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    device float* sums [[buffer(2)]],
    device atomic_uint* finished [[buffer(3)]],
    uint tid [[thread_position_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]],
    uint i [[thread_position_in_grid]]) {
  if (tid == 0) {
#ifdef FIXED
    // Each threadgroup keeps to its own sum; another dispatch adds them up.
    sums[group] = x[i];
    y[group] = sums[group];
#else
    sums[group] = x[i];  // expect: device-race
    uint before = atomic_fetch_add_explicit(finished, 1u, memory_order_relaxed);
    if (before == 3) {
      y[0] = sums[0] + sums[1] + sums[2] + sums[3];  // expect: device-race
    }
#endif
  }
}
