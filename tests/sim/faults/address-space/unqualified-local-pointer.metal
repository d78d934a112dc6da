// A local pointer needs an address space as well.
#include <metal_stdlib>
using namespace metal;

kernel void local_pointer(device float* y [[buffer(0)]]) {
  float values[4] = {1.0f, 2.0f, 3.0f, 4.0f};
#ifdef FIXED
  thread float* p = values;
#else
  float* p = values;  // expect: unqualified-pointer
#endif
  y[0] = p[1];
}
