// There is no heap.
#include <metal_stdlib>
using namespace metal;

kernel void allocate(device float* y [[buffer(0)]]) {
#ifdef FIXED
  float values[4] = {1.0f, 2.0f, 3.0f, 4.0f};
#else
  thread float* values = new float[4];  // expect: unsupported-keyword; allow: compile
  values[0] = 1.0f;
#endif
  y[0] = values[0];
}
