// One member of the structure is left out.
#include <metal_stdlib>
using namespace metal;

struct Range {
  uint bounds[2];
  uint strides[2];
};

kernel void extents(
    device float* y [[buffer(0)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  Range range;
  range.bounds[0] = 0;
  range.bounds[1] = n;
  range.strides[0] = 1;
#ifdef FIXED
  range.strides[1] = 1;
#endif
  y[i] = float(range.bounds[n % 2] * range.strides[n % 2]);  // expect: uninitialised-read
}
