// Far beyond the array, among the thread's other variables or none.
#include <metal_stdlib>
using namespace metal;

kernel void pick(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float values[4] = {x[i], 1.0f, 2.0f, 3.0f};
#ifdef FIXED
  y[i] = values[n];
#else
  y[i] = values[64 * n];  // expect: out-of-bounds
#endif
}
