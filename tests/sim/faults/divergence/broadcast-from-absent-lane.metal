// The second simdgroup of 40 threads has eight lanes; lane 31 is not among them.
// launch: 4 threadgroups of 40
#include <metal_stdlib>
using namespace metal;

kernel void last_value(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = simd_broadcast(x[i], 7);
#else
  y[i] = simd_broadcast(x[i], 31);  // expect: shuffle-from-inactive-lane
#endif
}
