// The last step of prefill: a token's experts, weighted and summed in the order of its slots, then the shared expert.
//
//   y[t] = sum over j of  scores[t, j] z[rows[t, j]]  +  s[t] shared[t]         s[t] = sigmoid(scale . x[t])
//
//   z [pairs, H] float: the experts' results, by row of the work list (worklist.h); shared [T, H] float
//   x, y [T, H] T; scale [1, H] quantised
//
// kShared: whether there is a shared expert; Scale: the format of scale, None if s is 1. An index that names no expert
// has no row and makes y NaN, as in decode.h.
//
// Grid: a threadgroup to a token, of any number of threads up to 1,024.
//   1. Each thread multiplies some columns of scale and x. The sum has one order, whatever order simdgroups run in.
//   2. Each thread sums four adjacent columns of y at a time.
#pragma once

#include "../common/quantized.h"

struct CombineSizes {
  uint hidden;  // H
  uint experts;
  uint k;
};

template <typename T, bool kShared, typename Scale>
[[kernel]] void moe_combine(device const float* z [[buffer(0)]],
                            device const uint* rows [[buffer(1)]],
                            device const uint* indices [[buffer(2)]],
                            device const float* scores [[buffer(3)]],
                            device const float* shared [[buffer(4)]],
                            device const T* x [[buffer(5)]],
                            device const uint* scale [[buffer(6)]],
                            device const T* scale_scales [[buffer(7)]],
                            device const T* scale_biases [[buffer(8)]],
                            device T* y [[buffer(9)]],
                            constant CombineSizes& sizes [[buffer(10)]],
                            uint token [[threadgroup_position_in_grid]],
                            uint thread_index [[thread_index_in_threadgroup]],
                            uint threads [[threads_per_threadgroup]],
                            uint simdgroup [[simdgroup_index_in_threadgroup]],
                            uint simdgroups [[simdgroups_per_threadgroup]],
                            uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float parts[32];  // a threadgroup has at most 32 simdgroups
  const size_t first = size_t(token) * sizes.hidden;

  // 1.
  float s = 1;
  if constexpr (!is_same_v<Scale, None>) {
    float product[1] = {};
    constexpr uint size = Piece<Scale, 1>::size;
    for (uint k = thread_index * size; k < sizes.hidden; k += threads * size) {
      const Piece<Scale, 1> piece = load_piece<Scale, 1>(x + first + k);
      add_products<Scale, 1>(Rows<T>{scale, scale_scales, scale_biases}, sizes.hidden, k, piece, product);
    }
    const float part = simd_sum(product[0]);
    if (lane == 0) {
      parts[simdgroup] = part;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float sum = 0;
    for (uint i = 0; i < simdgroups; i++) {
      sum += parts[i];
    }
    s = sigmoid(sum);
  }

  // 2.
  for (uint n = 4 * thread_index; n < sizes.hidden; n += 4 * threads) {
    float4 sum = 0;
    for (uint pair = token * sizes.k; pair < (token + 1) * sizes.k; pair++) {
      if (indices[pair] < sizes.experts) {
        sum += scores[pair] * *(device const float4*)(z + size_t(rows[pair]) * sizes.hidden + n);
      } else {
        sum = NAN;
      }
    }
    if constexpr (kShared) {
      sum += s * *(device const float4*)(shared + first + n);
    }
    *(device vec<T, 4>*)(y + first + n) = vec<T, 4>(sum);
  }
}
