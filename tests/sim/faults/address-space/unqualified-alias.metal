// An alias of a pointer type.
#include <metal_stdlib>
using namespace metal;

#ifdef FIXED
using Row = device float*;
#else
using Row = float*;  // expect: unqualified-pointer
#endif

kernel void alias(device float* y [[buffer(0)]]) {
#ifdef FIXED
  Row row = y;
  row[0] = 1.0f;
#else
  y[0] = 1.0f;
#endif
}
