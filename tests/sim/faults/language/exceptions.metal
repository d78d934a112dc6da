// No exceptions.
#include <metal_stdlib>
using namespace metal;

kernel void guard(device float* y [[buffer(0)]]) {
#ifdef FIXED
  y[0] = 1.0f;
#else
  try {  // expect: unsupported-keyword; allow: compile
    y[0] = 1.0f;
  } catch (...) {  // allow: unsupported-keyword, compile
  }
#endif
}
