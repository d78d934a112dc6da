// The second simdgroup of 40 threads has eight lanes: lane 7 reads from lane 8, which is not there.
// launch: 4 threadgroups of 40
#include <metal_stdlib>
using namespace metal;

kernel void differences(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint lane [[thread_index_in_simdgroup]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  y[i] = x[i] - simd_shuffle(x[i], ushort(lane % 8));
#else
  y[i] = x[i] - simd_shuffle_down(x[i], 1);  // expect: shuffle-from-inactive-lane
#endif
}
