// Lanes of one simdgroup exchange values through device memory without a barrier.
#include <metal_stdlib>
using namespace metal;

kernel void swap_neighbours(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    device float* staging [[buffer(3)]],
    uint i [[thread_position_in_grid]]) {
  staging[i] = x[i];  // expect: device-race
#ifdef FIXED
  simdgroup_barrier(mem_flags::mem_device);
#endif
  y[i] = staging[i ^ 1];  // expect: device-race; allow: uninitialised-read
}
