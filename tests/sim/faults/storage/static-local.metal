// A static local variable would outlive the kernel.
#include <metal_stdlib>
using namespace metal;

kernel void count(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uint calls = 0;
#else
  static uint calls = 0;  // expect: static-local
#endif
  calls += 1;
  y[i] = float(calls);
}
