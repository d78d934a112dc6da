// Small float matrix products with all operands in cache.
#pragma once

#include <cstdint>

namespace deltamoe::cpu {

template <class V>
struct Gemm {
  using F = typename V::F;
  static constexpr int L = V::lanes;

  // c[m][n] = keep * c[m][n] + sum_k a[m][k] b[k][n], row strides lda, ldb, ldc. `a` may be transposed by its strides:
  // element a[m][k] is at a[m * lda + k * step]. N is a multiple of L. keep 0 ignores what c held.
  static void run(int M, int N, int K, const float* a, int64_t lda, int64_t step, const float* b, int64_t ldb, float* c,
                  int64_t ldc, float keep) {
    constexpr int R = V::gemm_rows;
    constexpr int C = V::gemm_vectors;
    int m = 0;
    for (; m + R <= M; m += R) {
      int n = 0;
      for (; n + C * L <= N; n += C * L) {
        block<R, C>(K, a + m * lda, lda, step, b + n, ldb, c + m * ldc + n, ldc, keep);
      }
      for (; n < N; n += L) {
        block<R, 1>(K, a + m * lda, lda, step, b + n, ldb, c + m * ldc + n, ldc, keep);
      }
    }
    for (; m < M; ++m) {
      for (int n = 0; n < N; n += L) {
        block<1, 1>(K, a + m * lda, lda, step, b + n, ldb, c + m * ldc + n, ldc, keep);
      }
    }
  }

  // c[m][n] = sum_k a[m][k] b[n][k]: both rows contiguous; K a multiple of L. Lower: of n <= m, the rest of c is left
  // undefined; M = N, a multiple of 4.
  template <bool Lower = false>
  static void run_nt(int M, int N, int K, const float* a, int64_t lda, const float* b, int64_t ldb, float* c,
                     int64_t ldc) {
    int m = 0;
    for (; m + 4 <= M; m += 4) {
      const int end = Lower ? m + 4 : N;
      int n = 0;
      for (; n + 4 <= end; n += 4) {
        dots<4, 4>(K, a + m * lda, lda, b + n * ldb, ldb, c + m * ldc + n, ldc);
      }
      for (; n < end; ++n) {
        dots<4, 1>(K, a + m * lda, lda, b + n * ldb, ldb, c + m * ldc + n, ldc);
      }
    }
    for (; m < M; ++m) {
      for (int n = 0; n < N; ++n) {
        dots<1, 1>(K, a + m * lda, lda, b + n * ldb, ldb, c + m * ldc + n, ldc);
      }
    }
  }

 private:
  template <int R, int C>
  static void block(int K, const float* a, int64_t lda, int64_t step, const float* b, int64_t ldb, float* c,
                    int64_t ldc, float keep) {
    F t[R][C];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) {
        t[i][j] = keep == 0 ? V::zero() : V::mul(V::set(keep), V::load(c + i * ldc + j * L));
      }
    }
    for (int k = 0; k < K; ++k) {
      F row[C];
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) {
        row[j] = V::load(b + k * ldb + j * L);
      }
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) {
        const F x = V::set(a[i * lda + k * step]);
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) {
          t[i][j] = V::fma(x, row[j], t[i][j]);
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) {
        V::store(c + i * ldc + j * L, t[i][j]);
      }
    }
  }

  template <int R, int C>
  static void dots(int K, const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc) {
    F t[R][C];
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) {
        t[i][j] = V::zero();
      }
    }
    for (int k = 0; k < K; k += L) {
      F x[R];
#pragma GCC unroll 4
      for (int i = 0; i < R; ++i) {
        x[i] = V::load(a + i * lda + k);
      }
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) {
        const F y = V::load(b + j * ldb + k);
#pragma GCC unroll 4
        for (int i = 0; i < R; ++i) {
          t[i][j] = V::fma(x[i], y, t[i][j]);
        }
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) {
        c[i * ldc + j] = V::sum(t[i][j]);
      }
    }
  }
};

}  // namespace deltamoe::cpu
