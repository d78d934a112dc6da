// 32 KB are all there is.
#include <metal_stdlib>
using namespace metal;

kernel void stage(device float* y [[buffer(0)]], uint tid [[thread_position_in_threadgroup]]) {
#ifdef FIXED
  threadgroup float tile[8192];
#else
  threadgroup float tile[8200];  // expect: threadgroup-size
#endif
  tile[tid] = 1.0f;
  y[tid] = tile[tid];
}
