// A no-break space that an editor put in, or a letter beyond ASCII in a name.
#include <metal_stdlib>
using namespace metal;

kernel void assign(device float* y [[buffer(0)]]) {
#ifdef FIXED
  float angle = 1.0f;
  y[0] = angle;
#else
  float ångle = 1.0f;  // expect: non-ascii
  y[0] = ångle;  // expect: non-ascii
#endif
}
