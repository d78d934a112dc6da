// Nothing outlives a kernel; only constants stand outside.
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
constant float bias = 1.0f;
#else
float bias = 1.0f;  // expect: program-variable
#endif

kernel void add(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  y[i] += bias;
}
