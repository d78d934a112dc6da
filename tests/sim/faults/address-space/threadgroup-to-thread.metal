// A threadgroup array does not decay to a thread pointer.
#include <metal_stdlib>
using namespace metal;

kernel void assign(device float* y [[buffer(0)]], uint tid [[thread_position_in_threadgroup]]) {
  threadgroup float tile[64];
  tile[tid] = 1.0f;
#ifdef FIXED
  threadgroup float* p = tile;
#else
  thread float* p = tile;  // expect: compile
#endif
  y[tid] = p[tid];
}
