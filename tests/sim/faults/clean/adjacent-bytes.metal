// Neighbouring bytes belong to different threads.
// buffer bytes: uint8[256] output
#include <metal_stdlib>
using namespace metal;

kernel void quantise(
    device const float* x [[buffer(0)]],
    device uchar* bytes [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup uchar tile[64];
  tile[tid] = uchar(x[i] * 255.0f);
  bytes[i] = tile[tid];
}
