// Attention of a tile of query rows over keys [s0, s1), one pass, never holding more than a block of scores
// (FlashAttention, arXiv 2205.14135). For each block of keys:
//
//   1. widen K and V to float                                     [keys][D]
//   2. P = Q K^T, -inf at and beyond a row's limit                 [rows][keys]
//   3. m' = max(m, max P);  P = exp(P - m');  the sum and the output so far shrink by exp(m - m')
//   4. out += P V
//
// `out` is not divided by the sum: tiles over different keys can then be put together (see cpu/attention.cpp).
#pragma once

#include <algorithm>
#include <limits>

#include "cpu/kernels.h"
#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/gemm.h"

namespace deltamoe::cpu {

template <class V>
struct Attention {
  using E = Elementwise<V>;
  static constexpr int kKeys = 64;

  static size_t scratch(int rows, int dim) { return static_cast<size_t>(kKeys) * (2 * dim + rows); }

  static void run(const AttentionTile& t, int64_t s0, int64_t s1, Softmax* state, float* out) {
    constexpr float kNone = -std::numeric_limits<float>::infinity();
    float* k = t.scratch;
    float* v = k + static_cast<int64_t>(kKeys) * t.dim;
    float* p = v + static_cast<int64_t>(kKeys) * t.dim;
    std::fill(state, state + t.rows, Softmax{kNone, 0});
    std::fill(out, out + static_cast<int64_t>(t.rows) * t.dim, 0.0F);
    s1 = std::min(s1, *std::max_element(t.limit, t.limit + t.rows));
    for (int64_t s = s0; s < s1; s += kKeys) {
      const int n = static_cast<int>(std::min<int64_t>(kKeys, s1 - s));
      for (int i = 0; i < n; ++i) {
        E::gather(offset(t.k, t.dtype, (s + i) * t.k_stride), t.dtype, t.k_inner, k + static_cast<int64_t>(i) * t.dim,
                  t.dim);
        E::gather(offset(t.v, t.dtype, (s + i) * t.v_stride), t.dtype, t.v_inner, v + static_cast<int64_t>(i) * t.dim,
                  t.dim);
      }
      Gemm<V>::run_nt(t.rows, n, t.dim, t.q, t.dim, k, t.dim, p, kKeys);
      for (int r = 0; r < t.rows; ++r) {
        float* row = p + static_cast<int64_t>(r) * kKeys;
        const int live = static_cast<int>(std::clamp<int64_t>(t.limit[r] - s, 0, n));
        softmax(row, live, n, t.dim, &state[r], out + static_cast<int64_t>(r) * t.dim);
      }
      Gemm<V>::run(t.rows, t.dim, n, p, kKeys, 1, v, t.dim, out, t.dim, 1);
    }
  }

 private:
  static void softmax(float* row, int live, int n, int dim, Softmax* state, float* out) {
    float max = state->max;
    for (int i = 0; i < live; ++i) {
      max = row[i] > max || row[i] != row[i] ? row[i] : max;
    }
    const float shrink = state->max == max ? 1.0F : std::exp(state->max - max);
    if (shrink != 1.0F) {
      E::scale(shrink, out, dim);
    }
    const auto m = V::set(max == -std::numeric_limits<float>::infinity() ? 0.0F : max);
    float sum = 0;
    E::each(live, [&](int64_t i, int count) { E::put(row + i, E::exp(V::sub(E::get(row + i, count), m)), count); });
    for (int i = 0; i < live; ++i) {
      sum += row[i];
    }
    std::fill(row + live, row + n, 0.0F);
    *state = {max, state->sum * shrink + sum};
  }
};

}  // namespace deltamoe::cpu
