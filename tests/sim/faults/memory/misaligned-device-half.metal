// A half at an odd address.
#include <metal_stdlib>
using namespace metal;

kernel void odd(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  device const uchar* bytes = (device const uchar*)x;
#ifdef FIXED
  y[i] = float(*(device const half*)(bytes + 2));
#else
  y[i] = float(*(device const half*)(bytes + 3));  // expect: misaligned
#endif
}
