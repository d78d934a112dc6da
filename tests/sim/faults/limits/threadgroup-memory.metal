// 16 KB declared and 20 KB given by the launch are more than 32 KB.
// threadgroup memory 0: 20480 bytes
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
constant constexpr uint size = 3072;
#else
constant constexpr uint size = 4096;
#endif

kernel void two_kinds(  // expect: threadgroup-memory-limit
    device float* y [[buffer(0)]],
    threadgroup float* scratch [[threadgroup(0)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup float tile[size];
  tile[tid] = 1.0f;
  scratch[tid] = 2.0f;
  y[i] = tile[tid] + scratch[tid];
}
