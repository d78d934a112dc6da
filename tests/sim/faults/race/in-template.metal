// The loader's template parameter switches its barrier off.
#include <metal_stdlib>
using namespace metal;

template <typename T, bool Wait>
struct Loader {
  threadgroup T* tile;

  void load(device const T* source, uint tid) thread {
    tile[tid] = source[tid];  // expect: threadgroup-race
    if (Wait) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }
};

kernel void reverse(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint tid [[thread_position_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]]) {
  threadgroup float tile[64];
#ifdef FIXED
  Loader<float, true> loader{tile};
#else
  Loader<float, false> loader{tile};
#endif
  loader.load(x + 64 * group, tid);
  y[64 * group + tid] = tile[63 - tid];  // expect: threadgroup-race; allow: uninitialised-read
}
