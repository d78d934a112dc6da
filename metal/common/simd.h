// What all kernels share.
#pragma once

#include <metal_simdgroup_matrix>
#include <metal_stdlib>

using namespace metal;

constant constexpr uint SIMD_SIZE = 32;

inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }
inline float silu(float x) { return x / (1.0f + exp(-x)); }

// Where a lane's two numbers of an 8x8 matrix are: (column, row) of the first; the other one is to its right. MLX's own
// kernels rely on it too (steel/gemm/mma.h).
inline uint2 lane_position(uint lane) {
  const uint quad = lane / 4;
  return uint2((quad & 2) * 2 + lane % 2 * 2, (quad & 4) + lane / 2 % 4);
}

// The matrix of which each lane has two numbers.
inline simdgroup_float8x8 matrix_of(float2 numbers) {
  simdgroup_float8x8 matrix;
  matrix.thread_elements()[0] = numbers.x;
  matrix.thread_elements()[1] = numbers.y;
  return matrix;
}
