// A pointer in a structure.
#include <metal_stdlib>
using namespace metal;

struct View {
#ifdef FIXED
  device float* data;
#else
  float* data;  // expect: unqualified-pointer
#endif
  uint size;
};

kernel void make_view(device float* y [[buffer(0)]]) {
  View view;
  view.size = 1;
  y[0] = float(view.size);
}
