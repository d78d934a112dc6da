// No run-time type information.
#include <metal_stdlib>
using namespace metal;

kernel void name(device float* y [[buffer(0)]]) {
#ifdef FIXED
  bool same = is_same_v<float, half>;
#else
  bool same = typeid(float) == typeid(half);  // expect: unsupported-keyword; allow: compile
#endif
  y[0] = same ? 1.0f : 0.0f;
}
