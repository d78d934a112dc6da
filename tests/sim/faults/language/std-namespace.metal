// The C++ standard library is not there; Metal has its own.
#include <metal_stdlib>
using namespace metal;

kernel void largest(device float* y [[buffer(0)]]) {
#ifdef FIXED
  y[0] = max(y[0], y[1]);
#else
  y[0] = std::max(y[0], y[1]);  // expect: std-namespace; allow: compile
#endif
}
