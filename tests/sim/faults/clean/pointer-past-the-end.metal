// A pointer may stand behind the end as long as nothing is read there.
#include <metal_stdlib>
using namespace metal;

kernel void walk(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  device const float* end = x + 256;
  float sum = 0.0f;
  for (device const float* p = x + i; p < end; p += 64) {
    sum += *p;
  }
  y[i] = sum;
}
