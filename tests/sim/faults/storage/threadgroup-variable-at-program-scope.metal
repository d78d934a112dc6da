// Outside functions there are constants only.
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
constant float tile[4] = {1.0f, 2.0f, 3.0f, 4.0f};
#else
threadgroup float tile[4];  // expect: threadgroup-variable; allow: compile
#endif

kernel void use(device float* y [[buffer(0)]], uint tid [[thread_position_in_threadgroup]]) {
  y[tid] = tile[tid % 4];
}
