// Eight bins, of which the buffer holds four.
// buffer bins: uint32[4] = 0
#include <metal_stdlib>
using namespace metal;

kernel void histogram(
    device const float* x [[buffer(0)]],
    device atomic_uint* bins [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
#ifdef FIXED
  uint bin = min(uint(x[i] * 4.0f), 3u);
#else
  uint bin = uint(x[i] * 8.0f);
#endif
  atomic_fetch_add_explicit(&bins[bin], 1u, memory_order_relaxed);  // expect: out-of-bounds
}
