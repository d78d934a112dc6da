// A fragment of N values, filled for one more.
#include <metal_stdlib>
using namespace metal;

template <int N>
struct Fragment {
  float values[N];

  void fill(float value, uint count) thread {
    for (uint j = 0; j < count; j++) {
      values[j] = value;  // expect: out-of-bounds
    }
  }
};

kernel void fragments(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  Fragment<3> fragment;
#else
  Fragment<2> fragment;
#endif
  fragment.fill(x[i], n);
  y[i] = fragment.values[0] + fragment.values[1];
}
