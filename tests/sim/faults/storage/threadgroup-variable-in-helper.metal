// Threadgroup variables belong to kernels.
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
float share(threadgroup float* tile, uint tid) {
#else
float share(uint tid) {
  threadgroup float tile[64];  // expect: threadgroup-variable; allow: compile
#endif
  tile[tid] = 1.0f;
  return tile[tid];
}

kernel void call(device float* y [[buffer(0)]], uint tid [[thread_position_in_threadgroup]]) {
#ifdef FIXED
  threadgroup float tile[64];
  y[tid] = share(tile, tid);
#else
  y[tid] = share(tid);
#endif
}
