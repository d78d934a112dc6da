// An array cannot be initialised either.
#include <metal_stdlib>
using namespace metal;

kernel void count(device float* y [[buffer(0)]], uint tid [[thread_position_in_threadgroup]]) {
#ifdef FIXED
  threadgroup float bins[4];
#else
  threadgroup float bins[4] = {0.0f, 0.0f, 0.0f, 0.0f};  // expect: threadgroup-initialiser; allow: compile
#endif
  bins[tid] = 1.0f;
  y[tid] = bins[tid];
}
