// const alone does not say where it lies.
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
constant uint rows = 8;
#else
const uint rows = 8;  // expect: program-variable
#endif

kernel void fill(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  y[i] = float(rows);
}
