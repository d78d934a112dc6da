// Four 4-bit codes to two bytes: the index of the byte is i / 2, not i.
// buffer codes: uint8[128]
#include <metal_stdlib>
using namespace metal;

kernel void unpack(
    device const uchar* codes [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uchar pair = codes[i / 2];
#else
  uchar pair = codes[i];  // expect: out-of-bounds
#endif
  y[i] = float(i % 2 == 0 ? pair & 15 : pair >> 4);
}
