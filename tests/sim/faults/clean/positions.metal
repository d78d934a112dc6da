// Every kind of position, in scalars and vectors of 16 and 32 bits.
#include <metal_stdlib>
using namespace metal;

kernel void positions(
    device float* y [[buffer(0)]],
    uint3 i [[thread_position_in_grid]],
    uint3 tid [[thread_position_in_threadgroup]],
    uint3 group [[threadgroup_position_in_grid]],
    ushort3 threads [[threads_per_threadgroup]],
    uint3 groups [[threadgroups_per_grid]],
    uint3 size [[threads_per_grid]],
    ushort index [[thread_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint simdgroups [[simdgroups_per_threadgroup]],
    uint width [[threads_per_simdgroup]]) {
  uint sum = tid.x + group.x + threads.x + groups.x + size.x + index + lane + simdgroup + simdgroups + width;
  y[i.x] = float(sum);
}
