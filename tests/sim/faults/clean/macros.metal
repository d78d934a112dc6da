// Macros that make code, over several lines.
#include <metal_stdlib>
using namespace metal;

#define SCALE(value, factor) ((value) * (factor))
#define DEFINE_OP(name, expression)  \
  float name(float a, float b) {     \
    return expression;               \
  }

DEFINE_OP(add, a + b)
DEFINE_OP(multiply, a * b)

#if __METAL_VERSION__ >= 310
using narrow = bfloat;
#else
using narrow = half;
#endif

kernel void apply(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  y[i] = SCALE(add(x[i], 1.0f), multiply(2.0f, 3.0f)) + float(narrow(x[i]));
}
