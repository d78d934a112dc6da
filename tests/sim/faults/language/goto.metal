// No goto.
#include <metal_stdlib>
using namespace metal;

kernel void jump(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  if (i <= 4) {
    y[i] = 1.0f;
  }
#else
  if (i > 4) {
    goto done;  // expect: unsupported-keyword; allow: compile
  }
  y[i] = 1.0f;
done:
  return;
#endif
}
