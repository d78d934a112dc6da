// Nothing to throw either.
#include <metal_stdlib>
using namespace metal;

kernel void guard(device float* y [[buffer(0)]], constant uint& n [[buffer(1)]]) {
  if (n == 0) {
#ifdef FIXED
    return;
#else
    throw 1;  // expect: unsupported-keyword; allow: compile
#endif
  }
  y[0] = 1.0f;
}
