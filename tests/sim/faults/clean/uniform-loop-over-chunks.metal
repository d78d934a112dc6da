// Each thread strides through a range whose length divides evenly.
// launch: 1 threadgroup of 64
#include <metal_stdlib>
using namespace metal;

kernel void total(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint threads [[threads_per_threadgroup]]) {
  float sum = 0.0f;
  for (uint j = tid; j < 256; j += threads) {
    sum += x[j];
  }
  y[tid] = simd_sum(sum);
}
