// Constant memory is not device memory, not even for reading.
#include <metal_stdlib>
using namespace metal;

kernel void assign(constant float* table [[buffer(0)]], device float* y [[buffer(1)]]) {
#ifdef FIXED
  constant float* p = table;
#else
  device const float* p = table;  // expect: compile
#endif
  y[0] = p[0];
}
