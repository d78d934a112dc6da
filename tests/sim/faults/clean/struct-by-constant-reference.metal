// Parameters come in a structure.
// buffer parameters: uint32[4] = 2 3 64 1
#include <metal_stdlib>
using namespace metal;

struct Parameters {
  uint scale;
  uint offset;
  uint strides[2];
};

kernel void affine(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant Parameters& parameters [[buffer(2)]],
    uint tid [[thread_position_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]]) {
  uint i = group * parameters.strides[0] + tid * parameters.strides[1];
  y[i] = x[i] * float(parameters.scale) + float(parameters.offset);
}
