// The helper sets its result in one case only.
#include <metal_stdlib>
using namespace metal;

void find(thread float& result, float value, uint n) {
#ifdef FIXED
  result = 0.0f;
#endif
  if (n == 1) {
    result = value;
  }
}

kernel void search(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
  float result;
  find(result, x[i], n);
  y[i] = result;  // expect: uninitialised-read
}
