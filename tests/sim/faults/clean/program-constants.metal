// Constants at program scope, in namespaces and in structures.
#include <metal_stdlib>
using namespace metal;

constant float table[4] = {0.0f, 1.0f, 2.0f, 4.0f};
constant constexpr uint mask = 3;

namespace detail {
constant float bias = 0.5f;
}  // namespace detail

struct Shape {
  static constant constexpr uint rows = 8;
};

enum Mode { plain, biased };

kernel void look_up(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  const Mode mode = i < Shape::rows ? plain : biased;
  y[i] = table[i & mask] + (mode == biased ? detail::bias : 0.0f);
}
