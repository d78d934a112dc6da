// What the tile takes is known only where the template is instantiated.
#include <metal_stdlib>
using namespace metal;

template <typename T, int Rows>
[[kernel]] void stage(device T* y [[buffer(0)]], uint tid [[thread_position_in_threadgroup]]) {
  threadgroup T tile[Rows * 128];  // expect: threadgroup-size
  tile[tid] = T(1);
  y[tid] = tile[tid];
}

template [[host_name("stage_half")]] [[kernel]] decltype(stage<half, 128>) stage<half, 128>;
#ifndef FIXED
template [[host_name("stage_float")]] [[kernel]] decltype(stage<float, 128>) stage<float, 128>;
#endif
