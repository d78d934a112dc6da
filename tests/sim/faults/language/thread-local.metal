// No thread_local.
#include <metal_stdlib>
using namespace metal;

kernel void count(device float* y [[buffer(0)]]) {
#ifdef FIXED
  float total = 1.0f;
#else
  thread_local float total = 1.0f;  // expect: unsupported-keyword; allow: compile
#endif
  y[0] = total;
}
