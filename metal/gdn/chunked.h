// The gated delta rule on chunks of C = kChunk tokens with simdgroup matrices, for prefill: the WY form of arXiv
// 2406.06484 with the gates of 2412.06464, its triangular system solved tile after tile. One gate to a token and value
// head.
//
// Let S0 [Dk][Dv] be the state before a chunk (transposed: a column to a value channel), G_c = g_1 .. g_c, X_c the
// delta of token c, and
//
//   L[c][j] = (G_c / G_j) k_c . k_j   for j < c, 0 elsewhere     [C][C]
//
//   P[c][j] = (G_c / G_j) q_c . k_j   for j <= c, 0 elsewhere
//
// Then
//
//   (I + diag(beta) L) X = diag(beta) (V - diag(G) K S0)         [C][Dv]
//
//   Y = diag(G) Q S0 + P X                                       [C][Dv]
//
//   S = G_C S0 + (diag(G_C / G_j) K)^T X                         [Dk][Dv]
//
// and with 8x8 tiles L_ij, and M_i = (I + diag(beta) L_ii)^-1 diag(beta), X comes a tile row after the other:
//
//   X_i = M_i (V_i - diag(G) K_i S0 - sum over j < i of L_ij X_j)
//
// So no inverse of more than eight tokens is formed. M_i is found by forward substitution without a product of
// matrices; the rest takes, with c = C / 8, r = Hv / Hk and nothing computed twice, this many of 8x8x8 to a chunk and
// value head:
//
//   3 c (Dk / 8) (Dv / 8) + c (c + 1) (Dv / 8) + c (c + 1) (Dk / 8) / r
//
// Two kernels:
//
//   gated_delta_prepare   what does not depend on the state, of all chunks at once: `blocks`
//   gated_delta_chunked   chunk after chunk, with the state in registers
//
// A dispatch of each handles a segment, tokens size.first <= t < size.last: first is a multiple of C, last too or T.
// blocks is [B][Hv][chunks of the segment][C (C + 10)] float: for each tile (i, j), j <= i, row after row, the 64
// numbers of M_i (j = i) or -L_ij and the 64 of P_ij; then G [C] as decay_of gives gates, then G_C / G_j [C].
//
// A token that is not live has g = 1 and beta = 0, so X_c = 0: it leaves the state as it was, to the bit.
#pragma once

#include "../common/delta.h"

// Rows in threadgroup memory are this much longer than what they hold: those of a tile begin in different banks.
constant constexpr int ROW_PADDING = 4;

// A chunk's part of `blocks`.
template <int kChunk>
struct Block {
  static_assert(kChunk == 16 || kChunk == 32 || kChunk == 64, "chunks of 16, 32 or 64 tokens");
  static constant constexpr uint tile_rows = kChunk / 8;
  static constant constexpr uint gains = kChunk * (kChunk + 8);  // where G begins
  static constant constexpr uint size = kChunk * (kChunk + 10);

  // Where the two tiles (i, j) begin.
  static constexpr uint tile(uint i, uint j) { return (i * (i + 1) / 2 + j) * 128; }

  static size_t at(uint batch, uint heads, uint head, uint chunks, uint chunk) {
    return ((size_t(batch) * heads + head) * chunks + chunk) * size;
  }
};

inline float2 numbers_of(simdgroup_float8x8 matrix) {
  return float2(matrix.thread_elements()[0], matrix.thread_elements()[1]);
}

// The lane that has the number at a row and a column: lane_position the other way round.
inline ushort lane_at(uint row, uint column) {
  return (row & 4) << 2 | (column & 4) << 1 | (row & 3) << 1 | column / 2 % 2;
}

inline simdgroup_float8x8 load_tile(threadgroup const float* from, uint row, bool transposed = false) {
  simdgroup_float8x8 tile;
  simdgroup_load(tile, from, row, ulong2(0, 0), transposed);
  return tile;
}

// (I + L)^-1 of a strictly lower L by forward substitution: once row m is final, it is taken from those below it.
inline simdgroup_float8x8 inverse_of_one_plus(float2 lower, uint2 at) {
  float2 inverse = float2(at.x == at.y, at.x + 1 == at.y);
#pragma clang loop unroll(full)
  for (uint m = 0; m < 7; m++) {
    const float factor = simd_shuffle(lower[m % 2], lane_at(at.y, m));  // 0 in rows up to m
    const ushort from = lane_at(m, at.x);
    inverse -= factor * float2(simd_shuffle(inverse.x, from), simd_shuffle(inverse.y, from));
  }
  return matrix_of(inverse);
}

// The channels of q and k that gated_delta_prepare has in threadgroup memory at a time: 16 KB of the two at most.
constexpr int slice_of(int dk, int chunk) {
  int slice = 2048 / chunk;
  while (dk % slice != 0) {
    slice -= int(SIMD_SIZE);
  }
  return slice;
}

// squares[r] += what this lane has staged of row r, squared.
template <int kSlice>
void add_squares(threadgroup const float* rows, uint lane, thread float (&squares)[8]) {
  constexpr int kPer = kSlice / int(SIMD_SIZE);
#pragma unroll
  for (int r = 0; r < 8; r++) {
#pragma unroll
    for (int i = 0; i < kPer; i++) {
      const float x = rows[r * (kSlice + ROW_PADDING) + lane * kPer + i];
      squares[r] += x * x;
    }
  }
}

// grid: x: chunks; y: key heads; z: batch
// threadgroup: C / 8 simdgroups, each with a tile row i
//
// 1. K K^T and Q K^T on and below the diagonal, a slice of the channels after the other.
// 2. Normalised if there is a convolution; the sums of squares came along with 1.
// Then for each value head of the key head:
// 3. log G_c / G_j as running sums of log g, from token c back: differences of prefix sums would cancel after a gate
//    near 0. From them L, P, G_c and G_C / G_j.
// 4. M_i.
template <typename Types, typename Form, int Dk, int kChunk>
[[kernel, max_total_threads_per_threadgroup(4 * kChunk)]] void gated_delta_prepare(
    device const typename Types::T* q [[buffer(0)]],
    device const typename Types::T* k [[buffer(1)]],
    device const typename Types::T* v [[buffer(2)]],
    device const typename Types::T* z [[buffer(3)]],
    device const typename Types::Gate* a [[buffer(4)]],
    device const typename Types::Gate* b [[buffer(5)]],
    device const typename Types::Rate* A_log [[buffer(6)]],
    device const typename Types::Bias* dt_bias [[buffer(7)]],
    device const typename Types::Conv* conv_weight [[buffer(8)]],
    device const typename Types::Norm* norm_weight [[buffer(9)]],
    device const typename Types::T* conv_state [[buffer(10)]],
    device const float* state [[buffer(11)]],
    device const bool* mask [[buffer(12)]],
    device const int* lengths [[buffer(13)]],
    device typename Types::T* y [[buffer(14)]],
    device typename Types::T* new_conv_state [[buffer(15)]],
    device float* new_state [[buffer(16)]],
    constant DeltaSizes& sizes [[buffer(17)]],
    device float* blocks [[buffer(18)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint3 groups [[threadgroups_per_grid]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  static_assert(!Form::kChannelGate, "one gate to a token and value head");
  using B = Block<kChunk>;
  using In = Delta<Types, Form>;
  constexpr bool kNormalise = Form::kTaps > 0;
  constexpr int kSlice = slice_of(Dk, kChunk);
  constexpr int kRow = kSlice + ROW_PADDING;
  threadgroup float k_rows[kChunk * kRow];
  threadgroup float q_rows[kChunk * kRow];
  threadgroup float k_factors[kNormalise ? kChunk : 1];
  const DeltaSizes size = sizes;
  const In in = {q, k, v, a, b, A_log, dt_bias, conv_weight, conv_state, mask, lengths, size, group.z};
  const uint2 at = lane_position(lane);
  const uint k_head = group.y;
  const uint i = simdgroup;
  const uint row = 8 * i + at.y;  // of the lane's two numbers in a tile
  const uint t0 = size.first + group.x * kChunk;
  threadgroup float* own_k = k_rows + 8 * i * kRow;
  threadgroup float* own_q = q_rows + 8 * i * kRow;

  // 1.
  simdgroup_float8x8 kk[B::tile_rows];
  simdgroup_float8x8 qk[B::tile_rows];
#pragma clang loop unroll(full)
  for (uint j = 0; j < B::tile_rows; j++) {
    kk[j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    qk[j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }
  float k_squares[8] = {};
  float q_squares[8] = {};
  for (uint channel = 0; channel < Dk; channel += kSlice) {
    if (channel > 0) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    const uint from = k_head * Dk + channel;
    stage_rows<kSlice, false, kRow>(in, k, size.k_row, size.k_at + from, t0 + 8 * i, 8, 1.0f, lane, own_k);
    stage_rows<kSlice, false, kRow>(in, q, size.q_row, size.q_at + from, t0 + 8 * i, 8, 1.0f, lane, own_q);
    if constexpr (kNormalise) {
      add_squares<kSlice>(own_k, lane, k_squares);
      add_squares<kSlice>(own_q, lane, q_squares);
      if (channel + kSlice == Dk) {
#pragma unroll
        for (uint r = 0; r < 8; r++) {
          const float factor = inverse_norm(simd_sum(k_squares[r]));
          if (lane == 0) {
            k_factors[8 * i + r] = factor;
          }
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint d = 0; d < kSlice; d += 8) {
      simdgroup_float8x8 k_tile = load_tile(own_k + d, kRow);
      simdgroup_float8x8 q_tile = load_tile(own_q + d, kRow);
#pragma clang loop unroll(full)
      for (uint j = 0; j < B::tile_rows; j++) {
        if (j <= i) {
          simdgroup_float8x8 other = load_tile(k_rows + 8 * j * kRow + d, kRow, true);
          simdgroup_multiply_accumulate(kk[j], k_tile, other, kk[j]);
          simdgroup_multiply_accumulate(qk[j], q_tile, other, qk[j]);
        }
      }
    }
  }

  // 2.
  if constexpr (kNormalise) {
    float q_factor = 0;
#pragma unroll
    for (uint r = 0; r < 8; r++) {
      const float factor = inverse_norm(simd_sum(q_squares[r])) * rsqrt(float(Dk));
      q_factor = r == at.y ? factor : q_factor;
    }
    const float k_factor = k_factors[row];
#pragma clang loop unroll(full)
    for (uint j = 0; j < B::tile_rows; j++) {
      if (j <= i) {
        const float2 factors = float2(k_factors[8 * j + at.x], k_factors[8 * j + at.x + 1]);
        kk[j] = matrix_of(k_factor * factors * numbers_of(kk[j]));
        qk[j] = matrix_of(q_factor * factors * numbers_of(qk[j]));
      }
    }
  }

  const uint heads = size.v_heads / size.k_heads;
  for (uint head = k_head * heads; head < (k_head + 1) * heads; head++) {
    device float* block = blocks + B::at(group.z, size.v_heads, head, groups.x, group.x);
    // A lane has log g of tokens `lane` and 32 + lane, as far as the tile row needs them, and beta of a token in it.
    constexpr uint kTurns = (kChunk + SIMD_SIZE - 1) / SIMD_SIZE;
    float log_g[kTurns];
#pragma unroll
    for (uint n = 0; n < kTurns; n++) {
      const uint c = SIMD_SIZE * n + lane;
      log_g[n] = c < 8 * (i + 1) ? in.log_g(t0 + c, head) : 0.0f;
    }
    const float beta = lane < 8 ? in.beta(t0 + 8 * i + lane, head) : 0.0f;

    // 3.
    float sum = 0;  // of log g of tokens c + 1 .. row
#pragma clang loop unroll(full)
    for (uint j = B::tile_rows; j-- > 0;) {
      if (j <= i) {
        float2 ratio;  // G_row / G_c of the lane's two columns c, 0 above the diagonal
#pragma clang loop unroll(full)
        for (uint m = 8; m-- > 0;) {
          const uint c = 8 * j + m;
          const float next = simd_broadcast(log_g[c / SIMD_SIZE], c % SIMD_SIZE);
          if (m / 2 == at.x / 2) {
            ratio[m % 2] = c <= row ? exp(sum) : 0.0f;
          }
          sum += c <= row ? next : 0.0f;
        }
        const float2 l = ratio * numbers_of(kk[j]);
        simdgroup_float8x8 m_or_l = matrix_of(-l);
        if (j == i) {
          // 4.
          const float2 below = float2(at.x < at.y, at.x + 1 < at.y);
          const float2 columns = float2(simd_shuffle(beta, at.x), simd_shuffle(beta, at.x + 1));
          m_or_l = inverse_of_one_plus(simd_shuffle(beta, at.y) * below * l, at);
          m_or_l = matrix_of(columns * numbers_of(m_or_l));
        }
        simdgroup_store(m_or_l, block + B::tile(i, j), 8);
        simdgroup_store(matrix_of(ratio * numbers_of(qk[j])), block + B::tile(i, j) + 64, 8);
        if (row == kChunk - 1) {
          device float* tails = block + B::gains + kChunk + 8 * j + at.x;
          tails[0] = ratio.x;
          tails[1] = ratio.y;
        }
      }
    }
    if (at.x == 0) {
      block[B::gains + row] = decay_of(sum);
    }
  }
}

// The tiles (i, j) of a chunk's last piece, which has the most: `rows` tokens, 16 or 8.
constexpr int tiles_of(int chunk, int rows) { return rows / 8 * (chunk / 8) - (rows == 16 ? 1 : 0); }

// Threadgroup memory of gated_delta_chunked with pieces of so many tokens.
constexpr int bytes_of(int dk, int dv, int chunk, int rows) {
  return 4 * (rows * (2 * (dk + ROW_PADDING) + dv + ROW_PADDING) + 128 * tiles_of(chunk, rows) + 2 * chunk);
}

// How gated_delta_chunked is cut.
template <int Dk, int Dv, int kChunk>
struct Cut {
  static constant constexpr int columns = Dk > 128 ? 8 : 16;  // of S to a simdgroup: 64 numbers a lane at most
  static constant constexpr int simdgroups = Dv / columns;
  static constant constexpr int threads = int(SIMD_SIZE) * simdgroups;
  static constant constexpr int qk_row = Dk + ROW_PADDING;
  static constant constexpr int v_row = Dv + ROW_PADDING;
  static constant constexpr int unit = 4;  // rows that a simdgroup stages at a time

  static constant constexpr int rows = bytes_of(Dk, Dv, kChunk, 16) <= 32768 ? 16 : 8;  // tokens of a piece
  static constant constexpr int tiles = tiles_of(kChunk, rows);
  static_assert(bytes_of(Dk, Dv, kChunk, rows) <= 32768, "what a threadgroup may have");
};

// Eight rows of a matrix with the columns of a simdgroup, in registers.
template <int kColumns>
struct Strip {
  static constant constexpr uint tiles = kColumns / 8;
  simdgroup_float8x8 tile[tiles];

  static Strip zero() {
    Strip strip;
#pragma clang loop unroll(full)
    for (uint n = 0; n < tiles; n++) {
      strip.tile[n] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
    return strip;
  }

  static Strip load(threadgroup const float* from, uint row) {
    Strip strip;
#pragma clang loop unroll(full)
    for (uint n = 0; n < tiles; n++) {
      strip.tile[n] = load_tile(from + 8 * n, row);
    }
    return strip;
  }

  void store(threadgroup float* to, uint row) const {
#pragma clang loop unroll(full)
    for (uint n = 0; n < tiles; n++) {
      simdgroup_store(tile[n], to + 8 * n, row);
    }
  }

  // this += a x
  void add(simdgroup_float8x8 a, Strip x) {
#pragma clang loop unroll(full)
    for (uint n = 0; n < tiles; n++) {
      simdgroup_multiply_accumulate(tile[n], a, x.tile[n], tile[n]);
    }
  }

  // this -= x
  void subtract(Strip x) {
#pragma clang loop unroll(full)
    for (uint n = 0; n < tiles; n++) {
      tile[n] = matrix_of(numbers_of(tile[n]) - numbers_of(x.tile[n]));
    }
  }

  // Each lane's numbers times its gain, which is as decay_of gives it.
  Strip decayed_by(float gain) const {
    Strip strip;
#pragma clang loop unroll(full)
    for (uint n = 0; n < tiles; n++) {
      strip.tile[n] = matrix_of(decayed(float2(gain), numbers_of(tile[n])));
    }
    return strip;
  }
};

// S += (diag(G_C / G_j) K)^T X of a piece whose K is staged.
template <typename C, uint kStateRows, uint kTileRows>
void add_piece(threadgroup const float* k_rows,
               threadgroup const float* tails,
               thread const Strip<C::columns> (&x)[kTileRows],
               uint piece,
               uint2 at,
               thread Strip<C::columns> (&s)[kStateRows]) {
#pragma clang loop unroll(full)
  for (uint j = 0; j < kTileRows; j++) {
    if (j / (C::rows / 8) == piece) {
      const Strip<C::columns> own = x[j].decayed_by(tails[8 * j + at.y]);
      threadgroup const float* from = k_rows + (8 * j % C::rows) * C::qk_row;
#pragma clang loop unroll(full)
      for (uint d = 0; d < kStateRows; d++) {
        s[d].add(load_tile(from + 8 * d, C::qk_row, true), own);
      }
    }
  }
}

// grid: x: value heads; y: batch
// threadgroup: Cut::simdgroups simdgroups, each with some columns of S
//
// For each chunk, in pieces of 16 tokens, or of 8 where those do not fit in threadgroup memory:
// 1. Stage K, Q, V and the tile rows of the piece.
// 2. K S0 and Q S0.
// 3. X, which stays in registers, and Y, which takes V's place.
// 4. After the last piece: G_C S0, and what this piece adds to S.
// 5. Store y.
// 6. After the last piece: what the other pieces add to S; their K is staged again.
template <typename Types, typename Form, int Dk, int Dv, int kChunk>
[[kernel, max_total_threads_per_threadgroup(Cut<Dk, Dv, kChunk>::threads)]] void gated_delta_chunked(
    device const typename Types::T* q [[buffer(0)]],
    device const typename Types::T* k [[buffer(1)]],
    device const typename Types::T* v [[buffer(2)]],
    device const typename Types::T* z [[buffer(3)]],
    device const typename Types::Gate* a [[buffer(4)]],
    device const typename Types::Gate* b [[buffer(5)]],
    device const typename Types::Rate* A_log [[buffer(6)]],
    device const typename Types::Bias* dt_bias [[buffer(7)]],
    device const typename Types::Conv* conv_weight [[buffer(8)]],
    device const typename Types::Norm* norm_weight [[buffer(9)]],
    device const typename Types::T* conv_state [[buffer(10)]],
    device const float* state [[buffer(11)]],
    device const bool* mask [[buffer(12)]],
    device const int* lengths [[buffer(13)]],
    device typename Types::T* y [[buffer(14)]],
    device typename Types::T* new_conv_state [[buffer(15)]],
    device float* new_state [[buffer(16)]],
    constant DeltaSizes& sizes [[buffer(17)]],
    device const float* blocks [[buffer(18)]],
    uint3 group [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  using B = Block<kChunk>;
  using C = Cut<Dk, Dv, kChunk>;
  using In = Delta<Types, Form>;
  using Columns = Strip<C::columns>;
  constexpr uint kPieces = kChunk / C::rows;
  constexpr uint kPieceTiles = C::rows / 8;
  constexpr uint kUnits = C::rows / C::unit;
  threadgroup float k_rows[C::rows * C::qk_row];
  threadgroup float q_rows[C::rows * C::qk_row];
  threadgroup float v_rows[C::rows * C::v_row];
  threadgroup float tiles[128 * C::tiles];
  threadgroup float gains[2 * kChunk];  // G, then G_C / G_j
  threadgroup const float* tails = gains + kChunk;
  const DeltaSizes size = sizes;
  const In in = {q, k, v, a, b, A_log, dt_bias, conv_weight, conv_state, mask, lengths, size, group.y};
  const uint2 at = lane_position(lane);
  const uint head = group.x;
  const uint heads = size.v_heads / size.k_heads;
  const uint k_channel = size.k_at + head / heads * Dk;
  const uint q_channel = size.q_at + head / heads * Dk;
  const uint v_channel = size.v_at + head * Dv;
  const uint column = simdgroup * C::columns;
  const size_t own_state = ((size_t(group.y) * size.v_heads + head) * Dv + column) * Dk;
  LanePart<Dv> norm;
  if constexpr (Form::kTaps > 0) {
    norm = load_part<Dv>(norm_weight, lane);
  }

  Columns s[Dk / 8];
  device const float* before = size.first > 0 ? new_state : state;
#pragma clang loop unroll(full)
  for (uint d = 0; d < Dk / 8; d++) {
    s[d] = Columns::zero();
    if (Form::kState || size.first > 0) {
#pragma clang loop unroll(full)
      for (uint n = 0; n < Columns::tiles; n++) {
        simdgroup_load(s[d].tile[n], before + own_state + 8 * n * Dk + 8 * d, Dk, ulong2(0, 0), true);
      }
    }
  }

  const uint chunks = (size.last - size.first + kChunk - 1) / kChunk;
  for (uint chunk = 0; chunk < chunks; chunk++) {
    const uint t0 = size.first + chunk * kChunk;
    device const float* block = blocks + B::at(group.y, size.v_heads, head, chunks, chunk);
    Columns x[B::tile_rows];
    for (uint piece = 0; piece < kPieces; piece++) {
      const uint t = t0 + piece * C::rows;
      const uint first_tile = B::tile(piece * kPieceTiles, 0);
      // 1.
      for (uint unit = simdgroup; unit < 3 * kUnits; unit += C::simdgroups) {
        const uint r = unit % kUnits * C::unit;
        if (unit < kUnits) {
          stage_rows<Dv, false, C::v_row>(in, v, size.v_row, v_channel, t + r, C::unit, 1.0f, lane,
                                          v_rows + r * C::v_row);
        } else if (unit < 2 * kUnits) {
          stage_rows<Dk, true, C::qk_row>(in, k, size.k_row, k_channel, t + r, C::unit, 1.0f, lane,
                                          k_rows + r * C::qk_row);
        } else {
          stage_rows<Dk, true, C::qk_row>(in, q, size.q_row, q_channel, t + r, C::unit, rsqrt(float(Dk)), lane,
                                          q_rows + r * C::qk_row);
        }
      }
      for (uint n = thread_index; n < B::tile((piece + 1) * kPieceTiles, 0) - first_tile; n += C::threads) {
        tiles[n] = block[first_tile + n];
      }
      if (piece == 0) {
        for (uint n = thread_index; n < 2 * kChunk; n += C::threads) {
          gains[n] = block[B::gains + n];
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);

      // 2.
      Columns ks[kPieceTiles];
      Columns qs[kPieceTiles];
#pragma clang loop unroll(full)
      for (uint i = 0; i < kPieceTiles; i++) {
        ks[i] = Columns::zero();
        qs[i] = Columns::zero();
#pragma clang loop unroll(full)
        for (uint d = 0; d < Dk / 8; d++) {
          ks[i].add(load_tile(k_rows + 8 * i * C::qk_row + 8 * d, C::qk_row), s[d]);
          qs[i].add(load_tile(q_rows + 8 * i * C::qk_row + 8 * d, C::qk_row), s[d]);
        }
      }

      // 3. Registers have no index, so each tile row has its own code.
#pragma clang loop unroll(full)
      for (uint i = 0; i < B::tile_rows; i++) {
        if (i / kPieceTiles == piece) {
          threadgroup float* vy = v_rows + 8 * (i % kPieceTiles) * C::v_row + column;
          threadgroup const float* row_tiles = tiles + B::tile(i, 0) - first_tile;
          const float gain = gains[8 * i + at.y];
          Columns rest = Columns::load(vy, C::v_row);
          rest.subtract(ks[i % kPieceTiles].decayed_by(gain));
          Columns out = qs[i % kPieceTiles].decayed_by(gain);
#pragma clang loop unroll(full)
          for (uint j = 0; j < i; j++) {
            rest.add(load_tile(row_tiles + B::tile(0, j), 8), x[j]);
            out.add(load_tile(row_tiles + B::tile(0, j) + 64, 8), x[j]);
          }
          x[i] = Columns::zero();
          x[i].add(load_tile(row_tiles + B::tile(0, i), 8), rest);
          out.add(load_tile(row_tiles + B::tile(0, i) + 64, 8), x[i]);
          out.store(vy, C::v_row);
        }
      }

      // 4.
      if (piece == kPieces - 1) {
        const float gain = gains[kChunk - 1];
#pragma clang loop unroll(full)
        for (uint d = 0; d < Dk / 8; d++) {
          s[d] = s[d].decayed_by(gain);
        }
        add_piece<C>(k_rows, tails, x, piece, at, s);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);

      // 5. By the simdgroups that stage the same rows of V next: no barrier between the two.
      for (uint unit = simdgroup; unit < kUnits; unit += C::simdgroups) {
        for (uint r = unit * C::unit; r < (unit + 1) * C::unit && t + r < size.tokens; r++) {
          store_row<Dv>(in, v_rows + r * C::v_row, z, norm, t + r, head, lane, y);
        }
      }
    }

    // 6.
    for (uint piece = kPieces - 1; piece-- > 0;) {
      for (uint unit = simdgroup; unit < kUnits; unit += C::simdgroups) {
        const uint r = unit * C::unit;
        stage_rows<Dk, true, C::qk_row>(in, k, size.k_row, k_channel, t0 + piece * C::rows + r, C::unit, 1.0f, lane,
                                        k_rows + r * C::qk_row);
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      add_piece<C>(k_rows, tails, x, piece, at, s);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }

#pragma clang loop unroll(full)
  for (uint d = 0; d < Dk / 8; d++) {
#pragma clang loop unroll(full)
    for (uint n = 0; n < Columns::tiles; n++) {
      simdgroup_store(s[d].tile[n], new_state + own_state + 8 * n * Dk + 8 * d, Dk, ulong2(0, 0), true);
    }
  }
  if constexpr (Form::kTaps > 0) {
    if (size.last == size.tokens) {
      hand_over(in, v_channel, Dv, thread_index, C::threads, new_conv_state);
      if (head % heads == 0) {
        hand_over(in, q_channel, Dk, thread_index, C::threads, new_conv_state);
        hand_over(in, k_channel, Dk, thread_index, C::threads, new_conv_state);
      }
    }
  }
}
