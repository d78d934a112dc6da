// Names that OpenCL reserves and Metal does not.
#include <metal_stdlib>
using namespace metal;

struct local {
  float global;
  float pipe;
};

kernel void names(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  local generic = {x[i], 1.0f};
  float read_only = generic.global + generic.pipe;
  y[i] = read_only;
}
