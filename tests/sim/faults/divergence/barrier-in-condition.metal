// && evaluates its right side, with the barrier in it, for some threads only.
#include <metal_stdlib>
using namespace metal;

bool wait() {
  threadgroup_barrier(mem_flags::mem_threadgroup);  // expect: divergent-barrier
  return true;
}

kernel void short_circuit(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  bool large = wait() && x[i] > 0.5f;
#else
  bool large = x[i] > 0.5f && wait();
#endif
  y[i] = large ? 1.0f : 0.0f;
}
