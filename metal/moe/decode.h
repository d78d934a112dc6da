// The experts of a mixture of experts for a few tokens, in two kernels:
//
//   moe_gate_up       h_j = silu(gate_j x) * (up_j x)      each routed expert j of a token, and the shared one
//                     s   = sigmoid(scale x)               1 if there is no such matrix
//   moe_experts_down  y   = sum_j scores_j down_j h_j + s down h
//
//   x, y [tokens, H] T; indices [tokens, k] uint; scores [tokens, k] float
//   gate, up [experts, I, H], down [experts, H, I]; of the shared expert [I', H], [H, I']; scale [1, H]
//   h [tokens, k I + I'] float, s [tokens] float
//
// H and I are columns of some matrix each, so multiples of its group, and of 32. An index that names no expert makes
// y NaN: nothing is read out of bounds, and a GPU cannot raise.
//
// h is float: rounded to bfloat it would cost more than the tolerance table allows (tests/tolerance.py).
#pragma once

#include "../common/quantized.h"

struct MoeSizes {
  uint hidden;               // H
  uint intermediate;         // I
  uint shared_intermediate;  // I', 0 if there is no shared expert
  uint experts;
  uint k;
};

// h[r] = silu(gate[r] x) * (up[r] x) for kRows adjacent rows, by a simdgroup.
template <typename Format, int kWords, int kRows, typename T>
void swiglu_rows(Rows<T> gate, Rows<T> up, device const T* x, uint columns, uint lane, device float* h) {
  constexpr uint size = Piece<Format, kWords>::size;
  float g[kRows] = {};
  float u[kRows] = {};
  for (uint k = lane * size; k < columns; k += SIMD_SIZE * size) {
    const Piece<Format, kWords> piece = load_piece<Format, kWords>(x + k);
    add_products<Format, kWords>(gate, columns, k, piece, g);
    add_products<Format, kWords>(up, columns, k, piece, u);
  }
#pragma unroll
  for (int r = 0; r < kRows; r++) {
    const float gx = simd_sum(g[r]);
    const float ux = simd_sum(u[r]);
    if (lane == 0) {
      h[r] = silu(gx) * ux;
    }
  }
}

// grid: x: blocks of rows of each of the k experts, then of the shared expert, then one block for s; y: tokens
// threadgroup: kSimdgroups simdgroups, each with kRows rows of gate and the same of up
//
// 1. which expert, which rows
// 2. both products and SwiGLU in one pass over x; in the last block s
template <typename T, typename Routed, typename Shared, typename Scale, int kWords, int kRows, int kSimdgroups>
[[kernel]] void moe_gate_up(device const T* x [[buffer(0)]],
                            device const uint* indices [[buffer(1)]],
                            device const uint* gate [[buffer(2)]],
                            device const T* gate_scales [[buffer(3)]],
                            device const T* gate_biases [[buffer(4)]],
                            device const uint* up [[buffer(5)]],
                            device const T* up_scales [[buffer(6)]],
                            device const T* up_biases [[buffer(7)]],
                            device const uint* shared_gate [[buffer(8)]],
                            device const T* shared_gate_scales [[buffer(9)]],
                            device const T* shared_gate_biases [[buffer(10)]],
                            device const uint* shared_up [[buffer(11)]],
                            device const T* shared_up_scales [[buffer(12)]],
                            device const T* shared_up_biases [[buffer(13)]],
                            device const uint* scale [[buffer(14)]],
                            device const T* scale_scales [[buffer(15)]],
                            device const T* scale_biases [[buffer(16)]],
                            device float* h [[buffer(17)]],
                            device float* s [[buffer(18)]],
                            constant MoeSizes& size [[buffer(19)]],
                            uint2 group [[threadgroup_position_in_grid]],
                            uint simdgroup [[simdgroup_index_in_threadgroup]],
                            uint lane [[thread_index_in_simdgroup]]) {
  constexpr uint kBlock = kRows * kSimdgroups;
  static_assert(32 % kBlock == 0, "rows come in multiples of 32");
  const uint token = group.y;
  x += size_t(token) * size.hidden;
  h += size_t(token) * (size.k * size.intermediate + size.shared_intermediate);

  // 1.
  const uint row = group.x * kBlock + simdgroup * kRows;  // of all that are stacked in h, the shared expert's last
  const uint routed_rows = size.k * size.intermediate;

  // 2.
  if (row < routed_rows) {
    const uint j = row / size.intermediate;
    const uint expert = min(indices[token * size.k + j], size.experts - 1);
    const size_t first = size_t(expert) * size.intermediate + row % size.intermediate;
    swiglu_rows<Routed, kWords, kRows>(rows_from<Routed>(Rows<T>{gate, gate_scales, gate_biases}, first, size.hidden),
                                       rows_from<Routed>(Rows<T>{up, up_scales, up_biases}, first, size.hidden), x,
                                       size.hidden, lane, h + row);
  } else if constexpr (!is_same_v<Shared, None>) {
    if (row < routed_rows + size.shared_intermediate) {
      const uint first = row - routed_rows;
      swiglu_rows<Shared, kWords, kRows>(
          rows_from<Shared>(Rows<T>{shared_gate, shared_gate_scales, shared_gate_biases}, first, size.hidden),
          rows_from<Shared>(Rows<T>{shared_up, shared_up_scales, shared_up_biases}, first, size.hidden), x, size.hidden,
          lane, h + row);
    } else if (simdgroup == 0) {
      float product[1] = {};
      if constexpr (!is_same_v<Scale, None>) {
        multiply_rows<Scale, kWords>(Rows<T>{scale, scale_scales, scale_biases}, x, size.hidden, lane, product);
        product[0] = simd_sum(product[0]);
      } else {
        product[0] = INFINITY;
      }
      if (lane == 0) {
        s[token] = sigmoid(product[0]);
      }
    }
  }
}

// grid: x: blocks of kRows rows of y; y: tokens
// threadgroup: any number of simdgroups; they take the experts in turn, the shared one last
//
// 1. each simdgroup: all its experts' rows, weighted, lanes apart; then the sum over lanes
// 2. the sum over simdgroups, in order
template <typename T, typename Routed, typename Shared, int kWords, int kRows>
[[kernel]] void moe_experts_down(device const float* h [[buffer(0)]],
                                 device const float* s [[buffer(1)]],
                                 device const uint* indices [[buffer(2)]],
                                 device const float* scores [[buffer(3)]],
                                 device const uint* down [[buffer(4)]],
                                 device const T* down_scales [[buffer(5)]],
                                 device const T* down_biases [[buffer(6)]],
                                 device const uint* shared_down [[buffer(7)]],
                                 device const T* shared_down_scales [[buffer(8)]],
                                 device const T* shared_down_biases [[buffer(9)]],
                                 device T* y [[buffer(10)]],
                                 constant MoeSizes& size [[buffer(11)]],
                                 uint2 group [[threadgroup_position_in_grid]],
                                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                                 uint simdgroups [[simdgroups_per_threadgroup]],
                                 uint lane [[thread_index_in_simdgroup]]) {
  static_assert(32 % kRows == 0, "rows come in multiples of 32");
  threadgroup float parts[32][kRows];  // a threadgroup has at most 32 simdgroups
  const uint row = group.x * kRows;
  const uint token = group.y;
  h += size_t(token) * (size.k * size.intermediate + size.shared_intermediate);

  // 1.
  float total[kRows] = {};
  for (uint j = simdgroup; j < size.k; j += simdgroups) {
    const uint expert = indices[token * size.k + j];
    const float score = expert < size.experts ? scores[token * size.k + j] : NAN;
    const size_t first = size_t(min(expert, size.experts - 1)) * size.hidden + row;
    float sums[kRows] = {};
    multiply_rows<Routed, kWords>(rows_from<Routed>(Rows<T>{down, down_scales, down_biases}, first, size.intermediate),
                                  h + j * size.intermediate, size.intermediate, lane, sums);
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      total[r] += score * sums[r];
    }
  }
  if constexpr (!is_same_v<Shared, None>) {
    if (size.k % simdgroups == simdgroup) {
      float sums[kRows] = {};
      multiply_rows<Shared, kWords>(rows_from<Shared>(Rows<T>{shared_down, shared_down_scales, shared_down_biases}, row,
                                                      size.shared_intermediate),
                                    h + size.k * size.intermediate, size.shared_intermediate, lane, sums);
#pragma unroll
      for (int r = 0; r < kRows; r++) {
        total[r] += s[token] * sums[r];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; r++) {
    const float part = simd_sum(total[r]);
    if (lane == 0) {
      parts[simdgroup][r] = part;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // 2.
  if (simdgroup == 0 && lane < kRows) {
    float sum = 0;
    for (uint i = 0; i < simdgroups; i++) {
      sum += parts[i][lane];
    }
    y[size_t(token) * size.hidden + row + lane] = T(sum);
  }
}
