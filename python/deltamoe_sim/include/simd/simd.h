// The vector types under the names that host code shares with shaders.
#pragma once
#pragma clang system_header

#include <metal_stdlib>

namespace simd {
using namespace metal;
}
