// There are four spans, not five.
// buffer spans: uint32[8] = 0 4 8 16 32 8 64 2
#include <metal_stdlib>
using namespace metal;

struct Span {
  uint start;
  uint length;
};

kernel void lengths(
    device float* y [[buffer(0)]],
    device const Span* spans [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uint last = 3;
#else
  uint last = 4;
#endif
  y[i] = float(spans[min(i, last)].length);  // expect: out-of-bounds
}
