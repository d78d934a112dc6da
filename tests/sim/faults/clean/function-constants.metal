// Specialised when the pipeline is made; here with a default.
#include <metal_stdlib>
using namespace metal;

constant bool reversed [[function_constant(0)]];
constant bool is_reversed = is_function_constant_defined(reversed) ? reversed : false;

kernel void copy(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  y[i] = x[is_reversed ? 255 - i : i];
}
