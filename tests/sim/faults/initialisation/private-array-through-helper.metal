// The helper fills every second element.
#include <metal_stdlib>
using namespace metal;

void fill(thread int* values, uint count, uint step) {
  for (uint j = 0; j < count; j += step) {
    values[j] = int(j);
  }
}

kernel void last(
    device float* y [[buffer(0)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  int values[4];
#ifdef FIXED
  fill(values, 4, 1);
#else
  fill(values, 4, 2);
#endif
  y[i] = float(values[n]);  // expect: uninitialised-read
}
