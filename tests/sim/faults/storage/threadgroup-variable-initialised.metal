// Which thread would initialise it?
#include <metal_stdlib>
using namespace metal;

kernel void count(device float* y [[buffer(0)]], uint tid [[thread_position_in_threadgroup]]) {
#ifdef FIXED
  threadgroup float total;
  total = 0.0f;
#else
  threadgroup float total = 0.0f;  // expect: threadgroup-initialiser; allow: compile
#endif
  y[tid] = total;
}
