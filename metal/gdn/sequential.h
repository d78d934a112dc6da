// The gated delta rule, token after token, with all that is around it in a DeltaNet block (common/delta.h has the
// maths): a decode step in one dispatch, and prefill where that is faster than chunks.
//
//   S <- g S;    delta = beta (v - S k);    S <- S + delta k^T;    y = S q
//
//   q, k   [B, T, Hk, Dk]   v [B, T, Hv, Dv]   or with a convolution all three are qkv [B, T, 2 Hk Dk + Hv Dv]
//   z, y   [B, T, Hv, Dv]   a, b [B, T, Hv]    with a gate per channel a [B, T, Hv, Dk], dt_bias [Hv, Dk]
//   state  [B, Hv, Dv, Dk] float
//   new_state [B, K, Hv, Dv, Dk] float         after each of the last K tokens, the newest last; K is 1, or at most T.
//                                              With K = 1 it may be the memory of state
//   new_conv_state [B, kTaps - 1 + K - 1, channels]
//
// S is in registers from the first token to the last: a row of it in the four lanes of a quadgroup, so that a product
// with a row is one quad_sum. q, k and v of kTokens tokens at a time go through threadgroup memory. There a lane
// convolves one channel and keeps its last inputs, so that each is loaded once. q and k are left as long as they are:
// the products with them are divided by their lengths, which is two numbers a row in place of 2 Dk.
#pragma once

#include "../common/delta.h"

// Channel c of what a value head has of a token: [q | k | v], its Dk, Dk and Dv numbers. From token 0 on.
template <int Dk, int Dv, typename In>
Channels<In, 1> head_channel(thread const In& in, uint head, uint c) {
  thread const DeltaSizes& size = in.size;
  const uint k_head = head / (size.v_heads / size.k_heads);
  if (c < Dk) {
    return Channels<In, 1>(in, in.q, size.q_row, size.q_at + k_head * Dk + c, 0);
  }
  if (c < 2 * Dk) {
    return Channels<In, 1>(in, in.k, size.k_row, size.k_at + k_head * Dk + c - Dk, 0);
  }
  return Channels<In, 1>(in, in.v, size.v_row, size.v_at + head * Dv + c - 2 * Dk, 0);
}

// The lane's numbers of a row of S in memory: every fourth float4.
template <int kParts>
void load_row(device const float* from, uint part, thread float4 (&S)[kParts]) {
#pragma unroll
  for (int j = 0; j < kParts; j++) {
    S[j] = float4(((device const packed_float4*)from)[4 * j + part]);
  }
}
template <int kParts>
void keep_row(thread const float4 (&S)[kParts], uint part, device float* to) {
#pragma unroll
  for (int j = 0; j < kParts; j++) {
    ((device packed_float4*)to)[4 * j + part] = packed_float4(S[j]);
  }
}

// S <- g S, of what decay_of says; without a choice for each number if there is one gate.
template <int kParts>
void decay_row(thread float4 (&S)[kParts], float decay) {
  if (decay < 0.0f) {
#pragma unroll
    for (int j = 0; j < kParts; j++) {
      S[j] = fma(float4(decay), S[j], S[j]);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kParts; j++) {
      S[j] *= decay;
    }
  }
}
template <int kParts>
void decay_row(thread float4 (&S)[kParts], threadgroup const float4* decays) {
#pragma unroll
  for (int j = 0; j < kParts; j++) {
    S[j] = decayed(float4(decays[4 * j]), S[j]);
  }
}

// What divides by a length, from the sums of squares of 32 numbers each.
template <int D>
float inverse_length(threadgroup const float* squares) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < D / 32; i++) {
    sum += squares[i];
  }
  return inverse_norm(sum);
}

inline float sum_of(float4 x) { return (x.x + x.y) + (x.z + x.w); }

// grid: x: value heads; y: sequences
// threadgroup: (32, Dv / 8): a simdgroup has 8 rows of S
//
// For kTokens tokens at a time:
//   1. q, k and v, the sums of squares of q and k, g and beta
//   2. the recurrence; y takes v's place; each state that is to be kept
//   3. y, normalised and gated
// Then
//   4. the last state, and the convolution's last inputs
template <typename Types, typename Form, int Dk, int Dv, int kTokens>
[[kernel, max_total_threads_per_threadgroup(4 * Dv)]] void gated_delta_sequential(
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
    uint2 group [[threadgroup_position_in_grid]],
    uint simdgroup [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]]) {
  constexpr bool kConvolve = Form::kTaps > 0;
  constexpr uint kSimdgroups = Dv / 8;
  constexpr uint kThreads = 32 * kSimdgroups;
  constexpr uint kWidth = 2 * Dk + Dv;
  constexpr uint kTurns = (kWidth + kThreads - 1) / kThreads;
  constexpr uint kGates = Form::kChannelGate ? Dk : 1;
  threadgroup float4 rows[kTokens][kWidth / 4];                     // [q | k | v]
  threadgroup float squares[kTokens][kConvolve ? 2 * Dk / 32 : 1];  // of q and k, in parts of 32
  threadgroup float4 decays[kTokens][(kGates + 3) / 4];
  threadgroup float betas[kTokens];
  threadgroup bool live[kTokens];

  const DeltaSizes size = sizes;
  const Delta<Types, Form> in = {q, k, v, a, b, A_log, dt_bias, conv_weight, conv_state, mask, lengths, size, group.y};
  const uint head = group.x;
  const uint heads_per_key = size.v_heads / size.k_heads;
  const uint thread_index = simdgroup * 32 + lane;
  const uint row = thread_index / 4;
  const uint part = thread_index % 4;

  float4 S[Dk / 16] = {};
  if constexpr (Form::kState) {
    load_row(state + ((size_t(in.batch) * size.v_heads + head) * Dv + row) * Dk, part, S);
  }
  new_state += ((size_t(in.batch) * size.snapshots * size.v_heads + head) * Dv + row) * Dk;
  const size_t snapshot = size_t(size.v_heads) * Dv * Dk;
  Channels<Delta<Types, Form>, 1> channels[kTurns];
#pragma unroll
  for (uint i = 0; i < kTurns; i++) {
    if (i * kThreads + simdgroup * 32 < kWidth) {
      channels[i] = head_channel<Dk, Dv>(in, head, i * kThreads + thread_index);
    }
  }

  LanePart<Dv> norm;
  if (kConvolve && simdgroup < kTokens) {
    norm = load_part<Dv>(norm_weight, lane);
  }

  for (uint first = 0; first < size.tokens; first += kTokens) {
    // 1.
#pragma unroll
    for (uint i = 0; i < kTurns; i++) {
      const uint c = i * kThreads + thread_index;
      if (i * kThreads + simdgroup * 32 < kWidth) {
#pragma unroll
        for (uint n = 0; n < kTokens; n++) {
          float x[1];
          channels[i].next(x);
          ((threadgroup float*)rows[n])[c] = x[0];
          if (kConvolve && c < 2 * Dk) {
            const float total = simd_sum(x[0] * x[0]);
            if (lane == 0) {
              squares[n][c / 32] = total;
            }
          }
        }
      }
    }
    for (uint i = kThreads - 1 - thread_index; i < kTokens * kGates; i += kThreads) {  // the last have least to do
      const uint n = i / kGates;
      const uint c = i % kGates;
      ((threadgroup float*)decays[n])[c] = decay_of(in.log_g(first + n, head, c, Dk));
      if (c == 0) {
        betas[n] = in.beta(first + n, head);
        live[n] = in.live(first + n);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    // 2.
    const uint count = min(uint(kTokens), size.tokens - first);
    for (uint n = 0; n < count; n++) {
      if (live[n]) {
        threadgroup const float4* q_row = rows[n] + part;
        threadgroup const float4* k_row = q_row + Dk / 4;
        threadgroup float* v_row = (threadgroup float*)(rows[n] + Dk / 2);
        float q_factor = 1;
        float k_factor = 1;
        if constexpr (kConvolve) {
          q_factor = inverse_length<Dk>(squares[n]) * rsqrt(float(Dk));
          k_factor = inverse_length<Dk>(squares[n] + Dk / 32);
        }
        if constexpr (Form::kChannelGate) {
          decay_row(S, decays[n] + part);
        } else {
          decay_row(S, decays[n][0].x);
        }
        float4 Sk = 0;
#pragma unroll
        for (int j = 0; j < Dk / 16; j++) {
          Sk = fma(S[j], k_row[4 * j], Sk);
        }
        const float4 delta = k_factor * betas[n] * quad_sum((part == 0 ? v_row[row] : 0.0f) - k_factor * sum_of(Sk));
        float4 Sq = 0;
#pragma unroll
        for (int j = 0; j < Dk / 16; j++) {
          S[j] = fma(delta, k_row[4 * j], S[j]);
          Sq = fma(S[j], q_row[4 * j], Sq);
        }
        const float out = q_factor * quad_sum(sum_of(Sq));
        if (part == 0) {
          v_row[row] = out;
        }
      }
      const uint after = size.tokens - 1 - (first + n);  // tokens to come
      if (after > 0 && after < size.snapshots) {
        keep_row(S, part, new_state + (size.snapshots - 1 - after) * snapshot);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    // 3.
    for (uint n = simdgroup; n < count; n += kSimdgroups) {
      store_row<Dv>(in, (threadgroup const float*)(rows[n] + Dk / 2), z, norm, first + n, head, lane, y);
    }
    if (first + kTokens < size.tokens) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }

  // 4.
  keep_row(S, part, new_state + (size.snapshots - 1) * snapshot);
  if constexpr (kConvolve) {
    hand_over(in, size.v_at + head * Dv, Dv, thread_index, kThreads, new_conv_state);
    if (head % heads_per_key == 0) {
      const uint k_head = head / heads_per_key;
      hand_over(in, size.q_at + k_head * Dk, Dk, thread_index, kThreads, new_conv_state);
      hand_over(in, size.k_at + k_head * Dk, Dk, thread_index, kThreads, new_conv_state);
    }
  }
}
