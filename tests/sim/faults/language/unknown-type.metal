// CUDA's name for it.
#include <metal_stdlib>
using namespace metal;

kernel void widen(device const half* x [[buffer(0)]], device float* y [[buffer(1)]]) {
#ifdef FIXED
  half2 pair = half2(x[0], x[1]);
#else
  __half2 pair = __half2(x[0], x[1]);  // expect: compile
#endif
  y[0] = float(pair.x);
}
