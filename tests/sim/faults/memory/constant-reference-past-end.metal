// A reference to one number is not an array.
#include <metal_stdlib>
using namespace metal;

kernel void sizes(
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  constant uint* shape = &n;
#ifdef FIXED
  y[i] = float(shape[0]);
#else
  y[i] = float(shape[1]);  // expect: out-of-bounds
#endif
}
