// Constant memory cannot be written.
#include <metal_stdlib>
using namespace metal;

kernel void assign(constant float* table [[buffer(0)]], device float* y [[buffer(1)]]) {
#ifdef FIXED
  y[0] = table[0];
#else
  table[0] = y[0];  // expect: compile
#endif
}
