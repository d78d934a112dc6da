// Namespaces change nothing about it.
#include <metal_stdlib>
using namespace metal;

namespace detail {
#ifdef FIXED
constant constexpr int width = 32;
#else
static constexpr int width = 32;  // expect: program-variable
#endif
}  // namespace detail

kernel void fill(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  y[i] = float(detail::width);
}
