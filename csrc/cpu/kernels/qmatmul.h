// Multiplication by an affine-quantised matrix, straight from MLX's layout.
//
//   y[m][n] = sum_k w[n][k] x[m][k]                      w[n][k] = scale[n][g] code[n][k] + bias[n][g],  g = k / group
//           = sum_g scale[n][g] (sum_{k in g} code[n][k] x[m][k])  +  sum_g bias[n][g] (sum_{k in g} x[m][k])
//
// The codes are multiplied as whole numbers and each group is scaled once: nothing is lost by dequantising early, and
// the bias costs one product a group. Lanes run over k: one vector of words holds `lanes` words of 32 / bits codes,
// code j of all words is one vector, and x is packed to match, so that nothing is shuffled in the loop.
//
// A tile of m <= tile rows of x is packed as
//   float sums[m][G]            G = groups rounded up to whole vectors: the sum of x over each group, zeros behind
//   blocks[b][m][...]           one block is `lanes` words of codes; what a row's block holds is up to the Dot
//
// 1. widen the row's scales and biases to float
// 2. total[m] = bias . sums[m]
// 3. for each block: decode once, part[m] = code . x[m]; total[m] += part[m] * scale (spread over the lanes by group)
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

  static void pack(const float* x, void* out) {  // out[j][l] = x[l * codes + j]
    auto* o = static_cast<float*>(out);
    for (int l = 0; l < V::lanes; ++l) {
      for (int j = 0; j < codes; ++j) {
        o[j * V::lanes + l] = x[l * codes + j];
      }
    }
  }
  static Code decode(typename V::Words w, int j) { return V::template code<Bits>(w, j); }
  static typename V::F mac(typename V::F part, Code c, const void* x, int j) {
    return V::fma(c, V::load(static_cast<const float*>(x) + j * V::lanes), part);
  }
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
    switch (rows) {
      case 1:
        return rows_of<1>(w, p, n0, n1, tile, y, stride);
      case 2:
        return rows_of<2>(w, p, n0, n1, tile, y, stride);
      case 3:
        return rows_of<3>(w, p, n0, n1, tile, y, stride);
      case 4:
        return rows_of<4>(w, p, n0, n1, tile, y, stride);
      default:
        break;
    }
    if constexpr (V::tile > 4) {
      switch (rows) {
        case 5:
          return rows_of<5>(w, p, n0, n1, tile, y, stride);
        case 6:
          return rows_of<6>(w, p, n0, n1, tile, y, stride);
        case 7:
          return rows_of<7>(w, p, n0, n1, tile, y, stride);
        case 8:
          return rows_of<8>(w, p, n0, n1, tile, y, stride);
        default:
          break;
      }
    }
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
    alignas(64) float scales[kChunk + kSlack];
    alignas(64) float biases[kChunk];

    for (int64_t n = n0; n < n1; ++n) {
      const char* codes = static_cast<const char*>(w.codes) + n * row_bytes;
      F total[M];
      for (int m = 0; m < M; ++m) {
        total[m] = V::zero();
      }
      for (int64_t c0 = 0; c0 < padded; c0 += kChunk) {
        const int64_t c1 = std::min(c0 + kChunk, padded);
        const int64_t live = std::min(c1, w.groups()) - c0;
        widen(w.scales, w.dtype, n * w.groups() + c0, live, c1 - c0, scales);
        widen(w.biases, w.dtype, n * w.groups() + c0, live, c1 - c0, biases);
        for (int64_t g = c0; g < c1; g += L) {
          const F bias = V::load(biases + g - c0);
          for (int m = 0; m < M; ++m) {
            total[m] = V::fma(bias, V::load(sum + m * padded + g), total[m]);
          }
        }
        const int64_t b0 = c0 * w.group / Dot::block;
        const int64_t b1 = std::min((c0 + live) * w.group / Dot::block, whole);
        for (int64_t b = b0; b < b1; ++b) {
          const char* at = codes + b * L * 4;
          prefetch(at + kAhead);
          block<M>(V::load_words(at), x + b * M * Dot::block_bytes, scales + (b * L >> shift) - c0, pattern, total);
        }
        if (b1 * Dot::block < (c0 + live) * w.group) {  // the last, partial block
          alignas(64) uint32_t tail[L] = {};
          std::memcpy(tail, codes + b1 * L * 4, row_bytes - b1 * L * 4);
          block<M>(V::load_words(tail), x + b1 * M * Dot::block_bytes, scales + (b1 * L >> shift) - c0, pattern, total);
        }
      }
      for (int m = 0; m < M; ++m) {
        y[m * stride + n - n0] = V::sum(total[m]);
      }
    }
  }

  template <int M>
  static void block(typename V::Words words, const char* x, const float* scales, typename V::Spread pattern, F* total) {
    F part[M];
    for (int m = 0; m < M; ++m) {
      part[m] = V::zero();
    }
#pragma GCC unroll 8
    for (int j = 0; j < Dot::steps; ++j) {
      const typename Dot::Code code = Dot::decode(words, j);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        part[m] = Dot::mac(part[m], code, x + m * Dot::block_bytes, j);
      }
    }
    const F scale = V::spread(scales, pattern);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      total[m] = V::fma(part[m], scale, total[m]);
    }
  }

  // The codes are read once, in order: a few kilobytes ahead keeps memory busy across row ends.
  static constexpr int64_t kAhead = 4096;
  static void prefetch(const char* p) { __builtin_prefetch(p, 0, 2); }
};

}  // namespace deltamoe::cpu
