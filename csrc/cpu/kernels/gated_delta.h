// The gated delta rule for one head (arXiv 2412.06464). S is the state [Dv][Dk]; for each token
//
//   S <- g S;    delta = beta (v - S k);    S <- S + delta k^T;    y = S q
//
// Rows (gated_delta_rows): token by token on MLX's layout, lanes over Dk; g may be a vector over Dk. Reads and writes
// each state row once a token: with u = S k and w = S q before the update, y = g w + delta (k . q). A g near 1 is never
// rounded to float: it would be rounded the same way token after token, and a slow state would remember it.
//
// Chunks (gated_delta_chunks): the WY form of arXiv 2406.06484 over chunks of C tokens, scalar gates. With S0 the state
// before the chunk, G_c = g_1 ... g_c, and X_c the c-th delta:
//
//   1. A = K S0^T, B = Q S0^T                                                            [C][Dv]
//   2. L[c][j] = (G_c / G_j) k_c . k_j  (j < c),   P[c][j] = (G_c / G_j) q_c . k_j  (j <= c)   [C][C]
//   3. X_c = beta_c (v_c - G_c A_c - sum_{j < c} L[c][j] X_j)                            forward substitution
//   4. y_c = G_c B_c + sum_{j <= c} P[c][j] X_j
//   5. S = G_C S0 + sum_j (G_C / G_j) X_j k_j^T
//
// The state is held transposed, [Dk][Dv], so that lanes run over Dv in all five. Ratios of gates are running products,
// never quotients: a gate of 0 is no special case. A masked token is one with g = 1, beta = 0 and y = 0. A last chunk
// that is not full is filled up with such tokens.
#pragma once

#include <algorithm>
#include <cstring>

#include "cpu/kernels.h"
#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/gemm.h"

namespace deltamoe::cpu {

template <class V>
struct GatedDelta {
  using F = typename V::F;
  static constexpr int L = V::lanes;
  static constexpr int C = 16;

  static void rows(const DeltaHead& h) {
    for (int64_t t = 0; t < h.tokens; ++t) {
      float* y = h.y + t * h.y_stride;
      if (h.mask && !h.mask[t]) {
        std::fill(y, y + h.dv, 0.0F);
      } else if (h.channel_base) {
        step<Gate::channels>(h, t, y);
      } else {
        h.g[t * h.g_stride] > 0.5 ? step<Gate::near_one>(h, t, y) : step<Gate::small>(h, t, y);
      }
    }
  }

  static size_t scratch(int dk, int dv) {
    return static_cast<size_t>(dk) * dv + size_t{3} * C * dv + size_t{3} * C * dk + size_t{2} * C * C;
  }

  static void chunks(const DeltaHead& h) {
    float* state = h.scratch;                              // [Dk][Dv]
    float* a = state + static_cast<int64_t>(h.dk) * h.dv;  // A, then X
    float* b = a + C * h.dv;                               // B, then y
    float* v = b + C * h.dv;
    float* q = v + C * h.dv;
    float* k = q + C * h.dk;
    float* kd = k + C * h.dk;      // k_j scaled by G_C / G_j
    float* lower = kd + C * h.dk;  // L
    float* p = lower + C * C;      // P
    transpose(h.dv, h.dk, h.state, state);
    for (int64_t t0 = 0; t0 < h.tokens; t0 += C) {
      const int live = static_cast<int>(std::min<int64_t>(C, h.tokens - t0));
      double g[C];
      float beta[C];
      for (int c = 0; c < C; ++c) {
        const bool on = c < live && !(h.mask && !h.mask[t0 + c]);
        g[c] = on ? h.g[(t0 + c) * h.g_stride] : 1.0;
        beta[c] = on ? h.beta[(t0 + c) * h.beta_stride] : 0.0F;
        take(h.q, h.qk_stride, t0 + c, h.dk, on, q + c * h.dk);
        take(h.k, h.qk_stride, t0 + c, h.dk, on, k + c * h.dk);
        take(h.v, h.v_stride, t0 + c, h.dv, on, v + c * h.dv);
      }
      float gain[C];  // G_c
      float left[C];  // G_C / G_c
      double product = 1;
      for (int c = 0; c < C; ++c) {
        gain[c] = static_cast<float>(product *= g[c]);
      }
      product = 1;
      for (int c = C - 1; c >= 0; product *= g[c--]) {
        left[c] = static_cast<float>(product);
      }
      // 1.
      Gemm<V>::run(C, h.dv, h.dk, k, h.dk, 1, state, h.dv, a, h.dv, 0);
      Gemm<V>::run(C, h.dv, h.dk, q, h.dk, 1, state, h.dv, b, h.dv, 0);
      // 2.
      Gemm<V>::template run_nt<true>(C, C, h.dk, k, h.dk, k, h.dk, lower, C);
      Gemm<V>::template run_nt<true>(C, C, h.dk, q, h.dk, k, h.dk, p, C);
      for (int c = 0; c < C; ++c) {
        product = 1;
        for (int j = c; j >= 0; product *= g[j--]) {
          lower[c * C + j] *= static_cast<float>(product);
          p[c * C + j] *= static_cast<float>(product);
        }
      }
      // 3.
      for (int c = 0; c < C; ++c) {
        for (int i = 0; i < h.dv; i += L) {
          F x = V::fnma(V::set(gain[c]), V::load(a + c * h.dv + i), V::load(v + c * h.dv + i));
          for (int j = 0; j < c; ++j) {
            x = V::fnma(V::set(lower[c * C + j]), V::load(a + j * h.dv + i), x);
          }
          V::store(a + c * h.dv + i, V::mul(V::set(beta[c]), x));
        }
      }
      // 4.
      for (int c = 0; c < live; ++c) {
        float* y = h.y + (t0 + c) * h.y_stride;
        if (h.mask && !h.mask[t0 + c]) {
          std::fill(y, y + h.dv, 0.0F);
          continue;
        }
        for (int i = 0; i < h.dv; i += L) {
          F x = V::mul(V::set(gain[c]), V::load(b + c * h.dv + i));
          for (int j = 0; j <= c; ++j) {
            x = V::fma(V::set(p[c * C + j]), V::load(a + j * h.dv + i), x);
          }
          V::store(y + i, x);
        }
      }
      // 5.
      for (int c = 0; c < C; ++c) {
        for (int i = 0; i < h.dk; i += L) {
          V::store(kd + c * h.dk + i, V::mul(V::set(left[c]), V::load(k + c * h.dk + i)));
        }
      }
      Gemm<V>::run(h.dk, h.dv, C, kd, 1, h.dk, a, h.dv, state, h.dv, gain[C - 1]);
    }
    transpose(h.dk, h.dv, state, h.state);
  }

 private:
  enum class Gate { small, near_one, channels };

  template <Gate kGate>
  static void step(const DeltaHead& h, int64_t t, float* y) {
    const float* q = h.q + t * h.qk_stride;
    const float* k = h.k + t * h.qk_stride;
    const float* v = h.v + t * h.v_stride;
    const float beta = h.beta[t * h.beta_stride];
    const double g = kGate == Gate::channels ? 1 : h.g[t * h.g_stride];
    const F factor = V::set(static_cast<float>(kGate == Gate::near_one ? g - 1 : g));
    const auto decayed = [&](const float* s, int i) {  // g S
      const F x = V::load(s + i);
      if constexpr (kGate == Gate::channels) {
        const int64_t at = t * h.g_stride + i;
        return V::fma(V::load(h.channel_rest + at), x, V::mul(V::load(h.channel_base + at), x));
      } else if constexpr (kGate == Gate::near_one) {
        return V::fma(factor, x, x);
      } else {
        return V::mul(factor, x);
      }
    };
    F dot = V::zero();
    for (int i = 0; i < h.dk; i += L) {
      dot = V::fma(V::load(k + i), V::load(q + i), dot);
    }
    const float kq = V::sum(dot);
    for (int r = 0; r < h.dv; ++r) {
      float* s = h.state + static_cast<int64_t>(r) * h.dk;
      F u = V::zero();
      F w = V::zero();
      for (int i = 0; i < h.dk; i += L) {
        const F x = kGate == Gate::channels ? decayed(s, i) : V::load(s + i);
        u = V::fma(x, V::load(k + i), u);
        w = V::fma(x, V::load(q + i), w);
      }
      const float delta = beta * static_cast<float>(v[r] - g * V::sum(u));
      y[r] = static_cast<float>(g * V::sum(w)) + delta * kq;
      const F d = V::set(delta);
      for (int i = 0; i < h.dk; i += L) {
        V::store(s + i, V::fma(d, V::load(k + i), decayed(s, i)));
      }
    }
  }

  static void take(const float* x, int64_t stride, int64_t t, int n, bool on, float* out) {
    if (on) {
      std::memcpy(out, x + t * stride, n * sizeof(float));
    } else {
      std::fill(out, out + n, 0.0F);
    }
  }

  static void transpose(int rows, int cols, const float* x, float* y) {
    constexpr int B = 16;  // a cache line each way
    for (int r0 = 0; r0 < rows; r0 += B) {
      for (int c0 = 0; c0 < cols; c0 += B) {
        for (int r = r0; r < r0 + B; ++r) {
          for (int c = c0; c < c0 + B; ++c) {
            y[static_cast<int64_t>(c) * rows + r] = x[static_cast<int64_t>(r) * cols + c];
          }
        }
      }
    }
  }
};

}  // namespace deltamoe::cpu
