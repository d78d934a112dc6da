// A misspelt function.
#include <metal_stdlib>
using namespace metal;

kernel void sums(device float* y [[buffer(0)]]) {
#ifdef FIXED
  y[0] = simd_sum(y[0]);
#else
  y[0] = simd_summ(y[0]);  // expect: compile
#endif
}
