// Each array is small enough, but not the two of them.
#include <metal_stdlib>
using namespace metal;

struct Pair {
  float value;
  ushort key;
};

kernel void stage(device float* y [[buffer(0)]], uint tid [[thread_position_in_threadgroup]]) {
  threadgroup half tile[64][136];
#ifdef FIXED
  threadgroup Pair pairs[1024];
#else
  threadgroup Pair pairs[2048];  // expect: threadgroup-size
#endif
  tile[tid][0] = 1.0h;
  pairs[tid].value = 2.0f;
  y[tid] = float(tile[tid][0]) + pairs[tid].value;
}
