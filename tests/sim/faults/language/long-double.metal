// Nor anything wider.
#include <metal_stdlib>
using namespace metal;

kernel void scale(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  float factor = 0.1f;
#else
  long double factor = 0.1;  // expect: double; allow: compile
#endif
  y[i] = float(y[i] * factor);  // allow: compile
}
