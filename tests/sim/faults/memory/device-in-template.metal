// The window is one wider than the padding allows for.
#include <metal_stdlib>
using namespace metal;

template <typename T, int N>
T window_sum(device const T* values) {
  T sum = 0;
  for (int j = 0; j < N; j++) {
    sum += values[j];  // expect: out-of-bounds
  }
  return sum;
}

template <typename T, int N>
[[kernel]] void windows(
    device const T* x [[buffer(0)]],
    device T* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  y[i] = window_sum<T, N>(x + min(i, 252u));
}

#ifdef FIXED
template [[host_name("windows")]] [[kernel]] decltype(windows<float, 4>) windows<float, 4>;
#else
template [[host_name("windows")]] [[kernel]] decltype(windows<float, 5>) windows<float, 5>;
#endif
