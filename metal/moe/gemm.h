// Products of tiles of rows with quantised matrices, on simdgroup matrices: an expert's gate and up with SwiGLU, and
// its down.
//
//   moe_gemm_gate_up   h[r, n] = silu(gate[e, n] . x[tokens[r]]) * (up[e, n] . x[tokens[r]])     x [T, K], h [R, N]
//   moe_gemm_down      z[r, n] = down[e, n] . h[r]                                               h [R, K], z [R, N]
//
// e is row r's expert, as the work list says (worklist.h). Without a list there is one expert, the shared one, that
// takes every token as it comes: tokens[r] = r, R = T. A threadgroup has a tile of up to kRows rows r and, of each
// matrix, Shape::columns rows n, a quarter to each of its four simdgroups. Each code is loaded and dequantised once, by
// the lane that multiplies it: weights do not pass through threadgroup memory, only x does.
//
//     (w x^T) [8, r]  +=  sum over i < L / 2 of  A_i [8, 8] B_i [8, r]             4 L columns of w at a time
//
// Columns may be summed in any order. Columns 2c and 2c + 1 of A_i, which one lane holds, are columns k0 + L c + 2i and
// the one after it of w; so over all i a lane needs L adjacent codes, which lie within one group: one load of 8 or 16
// bytes, one scale, one bias. Rows 2c and 2c + 1 of B_i are the same columns of x, which are put in this order on their
// way to threadgroup memory. Weights are exact but for one rounding to float, and all sums are float.
//
// For each 4 L columns:
//   1. Load the lane's codes, scales and biases; they are not waited for before 3.
//   2. Bring x to threadgroup memory, zeros for rows and columns that are not there.
//   3. For each i: dequantise the A_i of all matrices, and multiply each with the B_i of every eight rows that are
//      there. Others cost nothing, so a tile may be larger than most experts need.
// Then SwiGLU, and the results that are there are stored. h and z are float: rounded to bfloat, h would cost more than
// the tolerance table allows.
//
// Grid: ceil(N / Shape::columns) x tiles; threadgroups beyond the number of tiles return at once. 128 threads.
#pragma once

#include "../common/quantized.h"
#include "worklist.h"

constant constexpr uint GEMM_SIMDGROUPS = 4;

struct GemmSizes {
  uint rows;     // without a work list
  uint columns;  // N
  uint depth;    // K
};

// What follows from a kernel's types. Accumulators: 32 numbers to a lane, for 8 rows 8 and for 16 rows 16.
template <typename X, typename Format, uint kRows, uint kMatrices>
struct Shape {
  static constant constexpr uint row_tiles = kRows / 8;
  static constant constexpr uint column_tiles = (kRows == 64 ? 2 : 4) / kMatrices;  // of a simdgroup and matrix
  static constant constexpr uint columns = 8 * column_tiles * GEMM_SIMDGROUPS;
  // Columns to a step: 128 where x then takes no more than 8 KB.
  static constant constexpr uint depth = Format::bits == 4 && kRows * sizeof(X) <= 64 ? 128 : 64;
  static constant constexpr uint lane_depth = depth / 4;  // L
  static constant constexpr uint words = lane_depth * Format::bits / 32;
  static_assert(lane_depth <= Format::group, "a lane's columns lie within one group");
};

// A lane's part of a row of a matrix in one step.
template <typename Format, uint kWords>
struct Codes {
  Words<kWords> words;
  float scale, bias;
};

template <typename Format, uint kWords, typename T>
Codes<Format, kWords> load_codes(Rows<T> w, uint k) {
  return {*(device const Words<kWords>*)(w.codes + k / 32 * Format::bits + k % 32 * Format::bits / 32),
          float(w.scales[k / Format::group]), float(w.biases[k / Format::group])};
}

// Columns 2i and 2i + 1.
template <typename Format, uint kWords>
float2 dequantize(thread const Codes<Format, kWords>& w, uint i) {
  constexpr uint per_word = 32 / Format::bits;
  constexpr uint mask = (1 << Format::bits) - 1;
  const uint word = w.words.word[2 * i / per_word] >> (2 * i % per_word * Format::bits);
  return fma(float2(w.scale), float2(word & mask, word >> Format::bits & mask), float2(w.bias));
}

// Numbers loaded at once, aligned as one is.
template <typename X>
struct Four {
  X x[4];
};

// Step 2: x of the rows `sources` and columns k0 .. k0 + 4 L. Column k0 + L c + 2i + b of row r goes to row 2c + b and
// column r % 8 of the B_i of row tile r / 8; a B_i is 64 numbers, row by row.
template <typename S, typename X>
void load_x(device const X* x,
            threadgroup const uint* sources,
            uint rows,
            uint k0,
            uint depth,
            uint simdgroup,
            uint lane,
            threadgroup X* b) {
  constexpr uint runs = S::lane_depth / 4;
  const uint c = lane / 8;
  const uint k = k0 + S::lane_depth * c;
  for (uint i = simdgroup; i < (rows + 7) / 8 * runs; i += GEMM_SIMDGROUPS) {
    const uint row_tile = i / runs;
    const uint run = i % runs;
    const uint r = 8 * row_tile + lane % 8;
    Four<X> values = {};
    if (r < rows && k < depth) {
      values = *(device const Four<X>*)(x + size_t(sources[r]) * depth + k + 4 * run);
    }
    threadgroup X* to = b + (row_tile * (S::lane_depth / 2) + 2 * run) * 64 + 16 * c + lane % 8;
    to[0] = values.x[0];
    to[8] = values.x[1];
    to[64] = values.x[2];
    to[72] = values.x[3];
  }
}

// Step 3, for the first `live` tiles of rows; kFull says that these are all.
template <typename S, bool kFull, uint kParts, typename Format, typename X>
void multiply(thread const Codes<Format, S::words> (&w)[kParts],
              threadgroup const X* lane_b,
              uint live,
              thread simdgroup_float8x8 (&sums)[kParts][S::row_tiles]) {
#pragma clang loop unroll(full)
  for (uint i = 0; i < S::lane_depth / 2; i++) {
    simdgroup_float8x8 a[kParts];
#pragma clang loop unroll(full)
    for (uint part = 0; part < kParts; part++) {
      a[part] = matrix_of(dequantize(w[part], i));
    }
#pragma clang loop unroll(full)
    for (uint tile = 0; tile < S::row_tiles; tile++) {
      if (kFull || tile < live) {
        threadgroup const X* from = lane_b + (tile * (S::lane_depth / 2) + i) * 64;
        const simdgroup_float8x8 b = matrix_of(float2(*(threadgroup const vec<X, 2>*)from));
#pragma clang loop unroll(full)
        for (uint part = 0; part < kParts; part++) {
          simdgroup_multiply_accumulate(sums[part][tile], a[part], b, sums[part][tile]);
        }
      }
    }
  }
}

// sums[m, t, ..] = w[m] of rows column + 8 t .. + 8, times x of the rows `sources`, transposed.
template <typename S, typename Format, uint kMatrices, typename T, typename X>
void multiply_tile(thread const Rows<T> (&w)[kMatrices],
                   device const X* x,
                   threadgroup const uint* sources,
                   uint rows,
                   uint column,
                   GemmSizes sizes,
                   uint simdgroup,
                   uint lane,
                   threadgroup X* b,
                   thread simdgroup_float8x8 (&sums)[kMatrices * S::column_tiles][S::row_tiles]) {
  constexpr uint parts = kMatrices * S::column_tiles;
  const uint2 at = lane_position(lane);
  const uint live = (rows + 7) / 8;
  for (uint part = 0; part < parts; part++) {
    for (uint tile = 0; tile < S::row_tiles; tile++) {
      sums[part][tile] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
  }
  for (uint k0 = 0; k0 < sizes.depth; k0 += S::depth) {
    // 1.
    const uint k = k0 + S::lane_depth * (at.x / 2);
    Codes<Format, S::words> codes[parts] = {};
    if (k < sizes.depth) {
#pragma clang loop unroll(full)
      for (uint part = 0; part < parts; part++) {
        const uint n = min(column + 8 * (part % S::column_tiles) + at.y, sizes.columns - 1);
        const Rows<T> row = rows_from<Format>(w[part / S::column_tiles], n, sizes.depth);
        codes[part] = load_codes<Format, S::words>(row, k);
      }
    }
    // 2.
    threadgroup_barrier(mem_flags::mem_threadgroup);
    load_x<S>(x, sources, rows, k0, sizes.depth, simdgroup, lane, b);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    // 3.
    if (live == S::row_tiles) {
      multiply<S, true>(codes, b + 8 * at.y + at.x, live, sums);
    } else {
      multiply<S, false>(codes, b + 8 * at.y + at.x, live, sums);
    }
  }
}

// y[r, n] of the tile's rows and columns that are there: silu(sums[0]) * sums[1] of two matrices, sums[0] of one.
template <typename S, uint kMatrices>
void store_tile(thread const simdgroup_float8x8 (&sums)[kMatrices * S::column_tiles][S::row_tiles],
                uint rows,
                uint column,
                uint columns,
                uint lane,
                device float* y) {
  const uint2 at = lane_position(lane);
#pragma clang loop unroll(full)
  for (uint tile = 0; tile < S::column_tiles; tile++) {
    const uint n = column + 8 * tile + at.y;
#pragma clang loop unroll(full)
    for (uint i = 0; i < 2 * S::row_tiles; i++) {
      const uint r = 8 * (i / 2) + at.x + i % 2;
      if (n < columns && r < rows) {
        float value = sums[tile][i / 2].thread_elements()[i % 2];
        if (kMatrices == 2) {
          const float up = sums[(kMatrices - 1) * S::column_tiles + tile][i / 2].thread_elements()[i % 2];
          value = silu(value) * up;
        }
        y[size_t(r) * columns + n] = value;
      }
    }
  }
}

// A threadgroup's tile, from loading to storing.
template <typename S, typename Format, uint kMatrices, typename T, typename X>
void gemm(thread const Rows<T> (&w)[kMatrices],
          device const X* x,
          threadgroup const uint* sources,
          uint rows,
          uint column,
          GemmSizes sizes,
          uint simdgroup,
          uint lane,
          threadgroup X* b,
          device float* y) {
  column += 8 * S::column_tiles * simdgroup;
  simdgroup_float8x8 sums[kMatrices * S::column_tiles][S::row_tiles];
  multiply_tile<S, Format>(w, x, sources, rows, column, sizes, simdgroup, lane, b, sums);
  store_tile<S, kMatrices>(sums, rows, column, sizes.columns, lane, y);
}

// A threadgroup's tile: of the work list, no rows if there are no more; if not kListed, of all rows in their order.
template <bool kListed, uint kRows>
Tile tile_at(uint i, device const Tile* tiles, device const uint* count, uint rows) {
  if constexpr (kListed) {
    if (i < *count) {
      return tiles[i];
    }
    return {0, 0, 0};
  } else {
    return {0, i * kRows, min(kRows, rows - i * kRows)};
  }
}

template <typename T, typename Format, int kRows, bool kListed>
[[kernel]] void moe_gemm_gate_up(device const T* x [[buffer(0)]],
                                 device const uint* tokens [[buffer(1)]],
                                 device const Tile* tiles [[buffer(2)]],
                                 device const uint* count [[buffer(3)]],
                                 device const uint* gate [[buffer(4)]],
                                 device const T* gate_scales [[buffer(5)]],
                                 device const T* gate_biases [[buffer(6)]],
                                 device const uint* up [[buffer(7)]],
                                 device const T* up_scales [[buffer(8)]],
                                 device const T* up_biases [[buffer(9)]],
                                 device float* h [[buffer(10)]],
                                 constant GemmSizes& sizes [[buffer(11)]],
                                 uint2 group [[threadgroup_position_in_grid]],
                                 uint thread_index [[thread_index_in_threadgroup]],
                                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                                 uint lane [[thread_index_in_simdgroup]]) {
  using S = Shape<T, Format, kRows, 2>;
  threadgroup vec<T, 2> b[kRows * S::depth / 2];
  threadgroup uint sources[kRows];
  const Tile tile = tile_at<kListed, kRows>(group.y, tiles, count, sizes.rows);
  if (tile.rows == 0) {
    return;
  }
  if (thread_index < tile.rows) {
    const uint row = tile.row + thread_index;
    sources[thread_index] = kListed ? tokens[row] : row;
  }
  const size_t first = size_t(tile.expert) * sizes.columns;
  const Rows<T> w[2] = {rows_from<Format>(Rows<T>{gate, gate_scales, gate_biases}, first, sizes.depth),
                        rows_from<Format>(Rows<T>{up, up_scales, up_biases}, first, sizes.depth)};
  gemm<S, Format>(w, x, sources, tile.rows, group.x * S::columns, sizes, simdgroup, lane, (threadgroup T*)b,
                  h + size_t(tile.row) * sizes.columns);
}

template <typename T, typename Format, int kRows, bool kListed>
[[kernel]] void moe_gemm_down(device const float* h [[buffer(0)]],
                              device const Tile* tiles [[buffer(1)]],
                              device const uint* count [[buffer(2)]],
                              device const uint* down [[buffer(3)]],
                              device const T* down_scales [[buffer(4)]],
                              device const T* down_biases [[buffer(5)]],
                              device float* z [[buffer(6)]],
                              constant GemmSizes& sizes [[buffer(7)]],
                              uint2 group [[threadgroup_position_in_grid]],
                              uint thread_index [[thread_index_in_threadgroup]],
                              uint simdgroup [[simdgroup_index_in_threadgroup]],
                              uint lane [[thread_index_in_simdgroup]]) {
  using S = Shape<float, Format, kRows, 1>;
  threadgroup float2 b[kRows * S::depth / 2];
  threadgroup uint sources[kRows];
  const Tile tile = tile_at<kListed, kRows>(group.y, tiles, count, sizes.rows);
  if (tile.rows == 0) {
    return;
  }
  if (thread_index < tile.rows) {
    sources[thread_index] = tile.row + thread_index;
  }
  const size_t first = size_t(tile.expert) * sizes.columns;
  const Rows<T> w[1] = {rows_from<Format>(Rows<T>{down, down_scales, down_biases}, first, sizes.depth)};
  gemm<S, Format>(w, h, sources, tile.rows, group.x * S::columns, sizes, simdgroup, lane, (threadgroup float*)b,
                  z + size_t(tile.row) * sizes.columns);
}
