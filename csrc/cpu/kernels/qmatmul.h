// Multiplication by an affine-quantised matrix, straight from MLX's layout. With g = k / group and c = 2^(bits - 1),
//
//   y[m][n] = sum_k w[n][k] x[m][k]                       w[n][k] = scale[n][g] code[n][k] + bias[n][g]
//           = sum_g scale[n][g] (sum_{k in g} (code[n][k] - c) x[m][k])  +  sum_g (bias[n][g] + c scale[n][g])
//           sums[m][g]
//
// where sums[m][g] is the sum of x[m] over the group. Centred codes are small whole numbers that are multiplied as
// such, and each group is scaled once: nothing is lost by dequantising early, and, since bias is near -c scale in
// practice, nothing large cancels. Lanes run over k: one vector of words holds `lanes` words of 32 / bits codes, code j
// of all words is one vector, and x is packed to match, so that nothing is shuffled in the loop.
//
// A tile of m <= tile rows of x is packed as
//   float sums[m][G]            G = groups rounded up to whole vectors: the sum of x over each group, zeros behind
//   blocks[b][m][...]           one block is `lanes` words of codes; what a row's block holds is up to the Dot
//
// 1. widen a row's scales and biases to float
// 2. total[m] = (bias + c scale) . sums[m]
// 3. for each block: decode once, part[m] = centred code . x[m]; total[m] += part[m] * scale (spread over the lanes by
// group)
// 4. y[m][n] = the sum of total[m]'s lanes
#pragma once

#include <algorithm>
#include <cstring>

#include "cpu/kernels.h"
#include "cpu/kernels/elementwise.h"

namespace deltamoe::cpu {

// Products in float: works with any V.
template <class V, int Bits>
struct FloatDot {
  static constexpr int codes = 32 / Bits;         // of a word
  static constexpr int block = codes * V::lanes;  // of a vector of words
  static constexpr int steps = codes;
  static constexpr size_t block_bytes = block * sizeof(float);
  using Code = typename V::F;
  using Activation = typename V::F;

  static void pack(const float* x, void* out) {  // out[j][l] = x[l * codes + j]
    auto* o = static_cast<float*>(out);
    for (int l = 0; l < V::lanes; ++l) {
      for (int j = 0; j < codes; ++j) {
        o[j * V::lanes + l] = x[l * codes + j];
      }
    }
  }
  // Codes come centred, less 2^(Bits - 1).
  static Code decode(typename V::Words w, int j) { return V::template code<Bits>(w, j); }
  static Activation activation(const void* x, int j) { return V::load(static_cast<const float*>(x) + j * V::lanes); }
  static typename V::F mac(typename V::F part, Code c, Activation x) { return V::fma(c, x, part); }
};

template <class V, class Dot>
struct QuantizedMatmul {
  using F = typename V::F;
  using E = Elementwise<V>;
  static constexpr int L = V::lanes;
  static constexpr int kSlack = 4;  // V::spread reads four scales at once

  static int64_t padded_groups(const Packing& p) { return (p.cols / p.group + L - 1) / L * L; }
  static int64_t blocks(const Packing& p) { return (p.cols + Dot::block - 1) / Dot::block; }

  static int tile_rows(const Packing& p) {
    constexpr int64_t kFirstCache = 32 << 10;
    return static_cast<int>(std::clamp<int64_t>(kFirstCache / (blocks(p) * Dot::block_bytes), 3, V::tile));
  }
  static size_t tile_bytes(const Packing& p, int rows) {
    const size_t bytes = rows * (padded_groups(p) * sizeof(float) + blocks(p) * Dot::block_bytes);
    return (bytes + 63 + 63) / 64 * 64;
  }
  static float* sums(void* tile) { return static_cast<float*>(tile); }
  static char* data(void* tile, const Packing& p, int rows) {
    const size_t bytes = rows * padded_groups(p) * sizeof(float);
    return static_cast<char*>(tile) + (bytes + 63) / 64 * 64;
  }

  static void pack(const Packing& p, int rows, const void* const* x, Dtype dtype, void* tile) {
    alignas(64) float part[Dot::block];
    const int64_t stride = padded_groups(p);
    char* out = data(tile, p, rows);
    for (int m = 0; m < rows; ++m) {
      float* sum = sums(tile) + m * stride;
      std::memset(sum, 0, stride * sizeof(float));
      for (int64_t b = 0; b < blocks(p); ++b) {
        const int64_t k0 = b * Dot::block;
        const auto n = static_cast<int>(std::min<int64_t>(Dot::block, p.cols - k0));
        E::load(offset(x[m], dtype, k0), dtype, part, n);
        std::fill(part + n, part + Dot::block, 0.0F);
        Dot::pack(part, out + (b * rows + m) * Dot::block_bytes);
        add_group_sums(p, part, k0, n, sum);
      }
    }
  }

  static void multiply(const Quantized& w, const Packing& p, int64_t n0, int64_t n1, int rows, const void* tile,
                       float* y, int64_t stride) {
    with_height<1>(w, p, n0, n1, rows, tile, y, stride);
  }

 private:
  static void add_group_sums(const Packing& p, const float* part, int64_t k0, int n, float* sum) {
    for (int i = 0; i < n;) {
      const int64_t g = (k0 + i) / p.group;
      const int end = static_cast<int>(std::min<int64_t>(n, (g + 1) * p.group - k0));
      F total = V::zero();
      float rest = 0;
      for (; i + L <= end; i += L) {
        total = V::add(total, V::load(part + i));
      }
      for (; i < end; ++i) {
        rest += part[i];
      }
      sum[g] += V::sum(total) + rest;
    }
  }

  // `groups` numbers as floats, zeros up to `padded`.
  static void widen(const void* p, Dtype dtype, int64_t first, int64_t groups, int64_t padded, float* out) {
    for (int64_t g = 0; g < padded; g += L) {
      V::store(out + g, E::get(p, dtype, first + g, static_cast<int>(std::min<int64_t>(L, groups - g))));
    }
  }

  template <int M>
  static void with_height(const Quantized& w, const Packing& p, int64_t n0, int64_t n1, int rows, const void* tile,
                          float* y, int64_t stride) {
    if (rows == M) {
      height<M>(w, p, n0, n1, tile, y, stride);
    } else if constexpr (M < V::tile) {
      with_height<M + 1>(w, p, n0, n1, rows, tile, y, stride);
    }
  }

  // A low tile takes several rows of w at once: they share the activations and hide each other's latency. A lone row of
  // x is bound by memory instead, which is fastest when it is read strictly in order, unless rows of w are short.
  template <int M>
  static void height(const Quantized& w, const Packing& p, int64_t n0, int64_t n1, const void* tile, float* y,
                     int64_t stride) {
    constexpr int R = std::min(4, V::tile / M);
    constexpr int64_t kShort = 512;  // bytes
    const int64_t whole = M == 1 && w.row_bytes() > kShort ? n0 : n0 + (n1 - n0) / R * R;
    rows_of<M, R>(w, p, n0, whole, tile, y, stride);
    rows_of<M, 1>(w, p, whole, n1, tile, y + whole - n0, stride);
  }

  template <int M, int R>
  static void rows_of(const Quantized& w, const Packing& p, int64_t n0, int64_t n1, const void* tile, float* y,
                      int64_t stride) {
    constexpr int64_t kChunk = 512;  // groups widened at a time: bounds the stack for any K
    const int64_t padded = padded_groups(p);
    const auto* sum = static_cast<const float*>(tile);
    const char* x = data(const_cast<void*>(tile), p, M);
    const int64_t row_bytes = w.row_bytes();
    const int64_t whole = w.cols / Dot::block;
    const int words = w.group / Dot::codes;  // that share a scale, a power of two
    const int shift = __builtin_ctz(words);
    const typename V::Spread pattern = V::pattern(words);
    const int64_t ahead = kAhead + (R - 1) * row_bytes;
    const F centre = V::set(static_cast<float>(1 << (w.bits - 1)));
    alignas(64) float scales[R][kChunk + kSlack];
    alignas(64) float biases[kChunk];

    for (int64_t n = n0; n < n1; n += R) {
      const char* codes = static_cast<const char*>(w.codes) + n * row_bytes;
      F total[R][M];
      for (int r = 0; r < R; ++r) {
        for (int m = 0; m < M; ++m) {
          total[r][m] = V::zero();
        }
      }
      for (int64_t c0 = 0; c0 < padded; c0 += kChunk) {
        const int64_t c1 = std::min(c0 + kChunk, padded);
        const int64_t live = std::min(c1, w.groups()) - c0;
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          if (R == 1) {
            const int64_t soon = n * w.groups() + c0 + kAhead * 8 / (w.group * w.bits);
            prefetch(static_cast<const char*>(offset(w.scales, w.dtype, soon)));
            prefetch(static_cast<const char*>(offset(w.biases, w.dtype, soon)));
          }
          widen(w.scales, w.dtype, (n + r) * w.groups() + c0, live, c1 - c0, scales[r]);
          widen(w.biases, w.dtype, (n + r) * w.groups() + c0, live, c1 - c0, biases);
          for (int64_t g = c0; g < c1; g += L) {
            const F bias = V::fma(centre, V::load(scales[r] + g - c0), V::load(biases + g - c0));
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) {
              total[r][m] = V::fma(bias, V::load(sum + m * padded + g), total[r][m]);
            }
          }
        }
        const int64_t b0 = c0 * w.group / Dot::block;
        const int64_t b1 = std::min((c0 + live) * w.group / Dot::block, whole);
        for (int64_t b = b0; b < b1; ++b) {
          typename V::Words word[R];
          F scale[R];
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            const char* at = codes + r * row_bytes + b * L * 4;
            prefetch(codes + ahead + (b * R + r) * L * 4);
            word[r] = V::load_words(at);
            scale[r] = V::spread(scales[r] + (b * L >> shift) - c0, pattern);
          }
          block<M, R>(word, x + b * M * Dot::block_bytes, scale, total);
        }
        if (b1 * Dot::block < (c0 + live) * w.group) {  // the last, partial block
          typename V::Words word[R];
          F scale[R];
          for (int r = 0; r < R; ++r) {
            alignas(64) uint32_t tail[L] = {};
            std::memcpy(tail, codes + r * row_bytes + b1 * L * 4, row_bytes - b1 * L * 4);
            word[r] = V::load_words(tail);
            scale[r] = V::spread(scales[r] + (b1 * L >> shift) - c0, pattern);
          }
          block<M, R>(word, x + b1 * M * Dot::block_bytes, scale, total);
        }
      }
      for (int r = 0; r < R; ++r) {
        for (int m = 0; m < M; ++m) {
          y[m * stride + n + r - n0] = V::sum(total[r][m]);
        }
      }
    }
  }

  template <int M, int R>
  static void block(const typename V::Words (&word)[R], const char* x, const F (&scale)[R], F (&total)[R][M]) {
    F part[R][M];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        part[r][m] = V::zero();
      }
    }
#pragma GCC unroll 8
    for (int j = 0; j < Dot::steps; ++j) {
      typename Dot::Code code[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        code[r] = Dot::decode(word[r], j);
      }
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const typename Dot::Activation a = Dot::activation(x + m * Dot::block_bytes, j);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          part[r][m] = Dot::mac(part[r][m], code[r], a);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        total[r][m] = V::fma(part[r][m], scale[r], total[r][m]);
      }
    }
  }

  // Codes are asked for in the order of memory, a few kilobytes ahead, whatever the order of their use: that keeps
  // memory busy across row ends.
  static constexpr int64_t kAhead = 4096;
  static void prefetch(const char* p) { __builtin_prefetch(p, 0, 2); }
};

}  // namespace deltamoe::cpu
