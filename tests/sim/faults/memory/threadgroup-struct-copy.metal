// The third block of two is written as a whole.
#include <metal_stdlib>
using namespace metal;

struct Block {
  float values[16];
};

kernel void blocks(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    constant uint& n [[buffer(2)]],
    uint tid [[thread_position_in_threadgroup]],
    uint i [[thread_position_in_grid]]) {
  threadgroup Block blocks[2];
  if (tid < 2) {
    Block block;
    for (int j = 0; j < 16; j++) {
      block.values[j] = x[j];
    }
#ifdef FIXED
    blocks[tid] = block;
#else
    blocks[tid + n - 2] = block;  // expect: out-of-bounds
#endif
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = blocks[1].values[tid % 16];
}
