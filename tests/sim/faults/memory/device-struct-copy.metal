// The whole structure is copied, and there is no fifth one.
// buffer spans: uint32[32] = 1
#include <metal_stdlib>
using namespace metal;

struct Span {
  uint start;
  uint length;
  uint strides[6];
};

kernel void extents(
    device float* y [[buffer(0)]],
    device const Span* spans [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  Span span = spans[i % 4];
#else
  Span span = spans[i % 5];  // expect: out-of-bounds
#endif
  uint extent = span.start;
  for (uint j = 0; j < min(span.length, 6u); j++) {
    extent += span.strides[j];
  }
  y[i] = float(extent);
}
