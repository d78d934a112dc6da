// A word is read from an odd byte of a thread's own array.
// buffer n: uint32 = 1
#include <metal_stdlib>
using namespace metal;

kernel void word(
    device float* y [[buffer(0)]],
    constant uint& n [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  alignas(8) uchar bytes[8];
  for (uint j = 0; j < 8; j++) {
    bytes[j] = uchar(i + j);
  }
#ifdef FIXED
  thread const uchar* start = bytes + 4 * n;
#else
  thread const uchar* start = bytes + n;
#endif
  y[i] = float(*(thread const uint*)start);  // expect: misaligned
}
