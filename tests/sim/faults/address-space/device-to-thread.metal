// A device pointer is no pointer to a thread's own memory.
#include <metal_stdlib>
using namespace metal;

kernel void assign(device float* y [[buffer(0)]]) {
#ifdef FIXED
  device float* p = y;
#else
  thread float* p = y;  // expect: compile
#endif
  p[0] = 1.0f;
}
