// Products with rows of a matrix in MLX's affine quantised layout, by a simdgroup.
//
//   w[k] = scale[g] code[k] + bias[g], g = k / group      codes of 4 or 8 bits, the lowest bits of a word first
//   w . x = sum over g of scale[g] (code . x)[g] + bias[g] sum(x)[g]
//
// Lanes run over k: each takes a piece of kWords words of codes, which lies within one group; the next 31 pieces are
// the other lanes'. K is any multiple of the group: where the last pieces are fewer than lanes, the others leave early.
//
// Codes are masked where they lie in half a word and not shifted: code i of a half word comes out as 2^(bits i) times
// itself, so x is divided by that, once for all rows. Both are exact, but for x below 2^-114, which may vanish.
//
// Loops over what a lane holds are unrolled: so its arrays are registers.
#pragma once

#include "simd.h"

// The format of a quantised matrix.
template <int kGroup, int kBits>
struct Affine {
  static_assert(kGroup == 32 || kGroup == 64 || kGroup == 128, "a group of MLX's");
  static_assert(kBits == 4 || kBits == 8, "bits that divide half a word");
  static constant constexpr int group = kGroup;
  static constant constexpr int bits = kBits;
};

// In place of the format of a matrix that is not there.
struct None {};

// Adjacent rows of a quantised matrix.
template <typename T>
struct Rows {
  device const uint* codes;  // [.., K bits / 32]
  device const T* scales;    // [.., K / group]
  device const T* biases;
};

// The rows from `row` on of a matrix with `columns` columns, or of a stack of such.
template <typename Format, typename T>
Rows<T> rows_from(Rows<T> w, size_t row, uint columns) {
  const size_t groups = row * (columns / Format::group);
  return {w.codes + row * (columns / 32 * Format::bits), w.scales + groups, w.biases + groups};
}

// What a lane takes of x at a time: divided as the codes need it, and its sum.
template <typename Format, int kWords>
struct Piece {
  static constant constexpr int size = kWords * 32 / Format::bits;
  static_assert(size <= Format::group, "a piece lies within one group");
  float x[size];
  float sum;
};

template <typename Format, int kWords, typename X>
Piece<Format, kWords> load_piece(device const X* x) {
  constexpr int codes = 16 / Format::bits;  // in half a word
  Piece<Format, kWords> piece;
  piece.sum = 0;
#pragma unroll
  for (int i = 0; i < Piece<Format, kWords>::size; i++) {
    const float value = float(x[i]);
    piece.x[i] = value * (1.0f / float(1 << (i % codes * Format::bits)));
    piece.sum += value;
  }
  return piece;
}

// Loaded at once, aligned as a word is.
template <int kWords>
struct Words {
  uint word[kWords];
};

// Adds to sums[r] what the lane's piece at column k contributes to row r times x.
template <typename Format, int kWords, int kRows, typename T>
void add_products(
    Rows<T> w, uint columns, uint k, thread const Piece<Format, kWords>& piece, thread float (&sums)[kRows]) {
  constexpr int codes = 16 / Format::bits;
  constexpr ushort mask = (1 << Format::bits) - 1;
  w = {w.codes + k * Format::bits / 32, w.scales + k / Format::group, w.biases + k / Format::group};
#pragma unroll
  for (int r = 0; r < kRows; r++) {
    const Words<kWords> words = *(device const Words<kWords>*)w.codes;
    float sum = 0;
#pragma unroll
    for (int h = 0; h < 2 * kWords; h++) {
      const ushort half_word = ushort(words.word[h / 2] >> (h % 2 * 16));
#pragma unroll
      for (int i = 0; i < codes; i++) {
        sum += piece.x[h * codes + i] * float(half_word & ushort(mask << (i * Format::bits)));
      }
    }
    sums[r] += float(*w.scales) * sum + float(*w.biases) * piece.sum;
    w = rows_from<Format>(w, 1, columns);
  }
}

// sums[r] += this lane's part of row r times x, over all columns.
template <typename Format, int kWords, int kRows, typename T, typename X>
void multiply_rows(Rows<T> w, device const X* x, uint columns, uint lane, thread float (&sums)[kRows]) {
  constexpr int size = Piece<Format, kWords>::size;
  for (uint k = lane * size; k < columns; k += SIMD_SIZE * size) {
    const Piece<Format, kWords> piece = load_piece<Format, kWords>(x + k);
    add_products<Format, kWords>(w, columns, k, piece, sums);
  }
}
