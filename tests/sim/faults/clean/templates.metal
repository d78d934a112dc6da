// Template functions, specialisations and two instantiations of a kernel.
#include <metal_stdlib>
using namespace metal;

template <typename T>
T twice(T value) {
  return value + value;
}

template <>
half twice<half>(half value) {
  return half(2) * value;
}

template <typename T, int N = 2>
[[kernel]] void scale(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  T value = T(x[i]);
  for (int j = 0; j < N; j++) {
    value = twice(value);
  }
  y[i] = float(value);
}

template [[host_name("scale_float")]] [[kernel]] decltype(scale<float>) scale<float>;
template [[host_name("scale_half")]] [[kernel]] decltype(scale<half, 3>) scale<half, 3>;
