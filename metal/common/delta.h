// The gated delta rule up to its recurrence and after it, token by token, for the kernels of metal/gdn.
//
//   S <- g S;    S <- S + beta (v - S k) k^T;    y = S q             S [Dv][Dk] float, per batch and value head
//
//   q, k, v  a row of T for each token, head after head. With a convolution (kTaps > 0) one row of `channels` numbers,
//            qkv, holds all three: they are convolved over the last kTaps tokens, a channel at a time, then
//            silu; q and k are divided by sqrt(|x|^2 + 1e-6), q by sqrt(Dk) too. Without one they come as they
//            are.
//   log g    -exp(A_log) softplus(a + dt_bias)     a [B, T, Hv], or a gate per channel: [B, T, Hv, Dk]
//   beta     sigmoid(b), twice that with kNegative     b [B, T, Hv]
//   y        as it is, or with a convolution y / rms(y) * norm_weight * silu(z)
//
// A token is live if it is below its sequence's length and its mask is true. Others are never read: they are 0 to the
// convolution, have g = 1, beta = 0 and y = 0.
//
// Everything is float from the first product on. Value head h has key head h / (Hv / Hk).
#pragma once

#include "simd.h"

// The dtypes of what is read. T is also y's.
template <typename T_, typename Gate_, typename Rate_, typename Bias_, typename Conv_, typename Norm_>
struct DeltaTypes {
  using T = T_;
  using Gate = Gate_;  // a, b
  using Rate = Rate_;  // A_log
  using Bias = Bias_;  // dt_bias
  using Conv = Conv_;  // conv_weight
  using Norm = Norm_;  // norm_weight
};

// What there is: taps of the convolution, or 0; which of the arrays that may be missing.
template <int kTaps_,
          bool kState_,
          bool kConvState_,
          bool kMask_,
          bool kLengths_,
          bool kNegative_ = false,
          bool kChannelGate_ = false>
struct DeltaForm {
  static constant constexpr int kTaps = kTaps_;
  static constant constexpr bool kState = kState_;
  static constant constexpr bool kConvState = kConvState_;
  static constant constexpr bool kMask = kMask_;
  static constant constexpr bool kLengths = kLengths_;
  static constant constexpr bool kNegative = kNegative_;
  static constant constexpr bool kChannelGate = kChannelGate_;
};

// g, or g - 1 if that is nearer to 0; the sign tells which. Gates that are near 1 and alike are rounded alike, and a
// state that remembers thousands of tokens would show it.
inline float decay_of(float log_g) {
  const float g = exp(log_g);
  const float less = g == 1.0f ? log_g : log_g * ((g - 1.0f) / log(g));  // g - 1, as in softplus below
  return -0.5f < less && less < 0.0f ? less : g;
}

// g x, for a float or each of a vector's.
template <typename X>
X decayed(X decay, X x) {
  return fma(decay, x, select(x, X(0.0f), decay >= X(0.0f)));
}

struct DeltaSizes {
  uint tokens;               // T
  uint first, last;          // this dispatch's tokens: first <= t < last
  uint k_heads, v_heads;     // Hk, Hv
  uint q_at, k_at, v_at;     // where the first head of each begins in its row
  uint q_row, k_row, v_row;  // numbers in a row; with a convolution all are `channels`
  uint snapshots;            // how many states are kept, those after the last tokens: at least 1
  float norm_eps;
};

// The inputs of one sequence of the batch.
template <typename Types_, typename Form_>
struct Delta {
  using Types = Types_;
  using Form = Form_;
  using T = typename Types::T;

  device const T* q;
  device const T* k;
  device const T* v;
  device const typename Types::Gate* a;
  device const typename Types::Gate* b;
  device const typename Types::Rate* A_log;
  device const typename Types::Bias* dt_bias;
  device const typename Types::Conv* conv_weight;  // [channels, kTaps]
  device const T* conv_state;                      // [B, kTaps - 1, channels]
  device const bool* mask;                         // [B, T]
  device const int* lengths;                       // [B]
  DeltaSizes size;
  uint batch;

  uint length() const {
    if constexpr (Form::kLengths) {
      return uint(clamp(lengths[batch], 0, int(size.tokens)));
    }
    return size.tokens;
  }

  // Of any t, also beyond the last token.
  bool live(uint t) const {
    if (t >= length()) {
      return false;
    }
    if constexpr (Form::kMask) {
      return mask[size_t(batch) * size.tokens + t];
    }
    return true;
  }

  // The number at a channel of a row of x (q, k or v), 0 where the token is not live; t < 0 is the conv_state.
  float at(device const T* x, uint row, int t, uint channel) const {
    if (t >= 0) {
      return live(t) ? float(x[(size_t(batch) * size.tokens + t) * row + channel]) : 0.0f;
    }
    if constexpr (Form::kConvState) {
      return float(conv_state[(size_t(batch) * (Form::kTaps - 1) + (Form::kTaps - 1 + t)) * row + channel]);
    }
    return 0.0f;
  }

  // log g of a live token, 0 of another. `channel` only with a gate per channel, of Dk.
  float log_g(uint t, uint head, uint channel = 0, uint dk = 1) const {
    if (!live(t)) {
      return 0.0f;
    }
    const size_t i = (size_t(batch) * size.tokens + t) * size.v_heads + head;
    const size_t width = Form::kChannelGate ? dk : 1;
    return -exp(float(A_log[head])) * softplus(float(a[i * width + channel]) + float(dt_bias[head * width + channel]));
  }

  float beta(uint t, uint head) const {
    if (!live(t)) {
      return 0.0f;
    }
    const float x = sigmoid(float(b[(size_t(batch) * size.tokens + t) * size.v_heads + head]));
    return Form::kNegative ? 2.0f * x : x;
  }

 private:
  // log(1 + exp(x)). log(1 + u) for a small u is u log(w) / (w - 1) with w = 1 + u as rounded: gates of 1 - 1e-4 and
  // nearer to 1 keep all their digits.
  static float softplus(float x) {
    const float u = exp(-abs(x));
    const float w = 1.0f + u;
    return max(x, 0.0f) + (w == 1.0f ? u : u * (log(w) / (w - 1.0f)));
  }
};

// kPer adjacent channels of consecutive tokens, in one lane: convolved and through silu if there is a convolution.
//
//   Channels<Delta, kPer> x(in, in.k, in.size.k_row, channel, t);   // reads what lies before t
//   x.next(numbers);                                                 // of t, then of t + 1, ...
template <typename In, int kPer>
struct Channels {
  static constant constexpr int kTaps = In::Form::kTaps;
  static constant constexpr int kBefore = kTaps > 1 ? kTaps - 1 : 1;

  thread const In* in;
  device const typename In::T* x;
  uint row;
  uint channel;
  int t;
  float before[kBefore][kPer];
  float weight[kTaps > 0 ? kTaps : 1][kPer];

  Channels() {}
  Channels(thread const In& in, device const typename In::T* x, uint row, uint channel, uint first)
      : in(&in), x(x), row(row), channel(channel), t(int(first)) {
    if constexpr (kTaps > 0) {
#pragma unroll
      for (int i = 0; i < kPer; i++) {
#pragma unroll
        for (int j = 0; j < kTaps; j++) {
          weight[j][i] = float(in.conv_weight[(channel + i) * kTaps + j]);
        }
#pragma unroll
        for (int j = 0; j < kTaps - 1; j++) {
          before[j][i] = in.at(x, row, t - (kTaps - 1) + j, channel + i);
        }
      }
    }
  }

  void next(thread float (&out)[kPer]) {
#pragma unroll
    for (int i = 0; i < kPer; i++) {
      const float now = in->at(x, row, t, channel + i);
      out[i] = now;
      if constexpr (kTaps > 0) {
        float sum = weight[kTaps - 1][i] * now;
#pragma unroll
        for (int j = 0; j < kTaps - 1; j++) {
          sum += weight[j][i] * before[j][i];
          before[j][i] = j + 1 < kTaps - 1 ? before[j + 1][i] : now;
        }
        out[i] = silu(sum);
      }
    }
    t++;
  }
};

// What |x|^2 of a head's q or k is multiplied with: q takes Dk^-0.5 besides.
inline float inverse_norm(float squares) { return rsqrt(squares + 1e-6f); }

// Rows t .. t + rows of a head's q, k or v to threadgroup memory, kStride apart, by one simdgroup; lane l has the
// channels l D / 32 and on. q and k are normalised if there is a convolution, and multiplied with `scale`.
template <int D, bool kNormalise, int kStride = D, typename In>
void stage_rows(thread const In& in,
                device const typename In::T* x,
                uint row,
                uint channel,
                uint t,
                uint rows,
                float scale,
                uint lane,
                threadgroup float* to) {
  constexpr int kPer = D / int(SIMD_SIZE);
  static_assert(D % int(SIMD_SIZE) == 0, "head dimensions are multiples of 32");
  Channels<In, kPer> channels(in, x, row, channel + lane * kPer, t);
  for (uint r = 0; r < rows; r++) {
    float numbers[kPer];
    channels.next(numbers);
    float factor = 1;
    if constexpr (kNormalise && In::Form::kTaps > 0) {
      float squares = 0;
#pragma unroll
      for (int i = 0; i < kPer; i++) {
        squares += numbers[i] * numbers[i];
      }
      factor = scale * inverse_norm(simd_sum(squares));
    }
#pragma unroll
    for (int i = 0; i < kPer; i++) {
      to[r * kStride + lane * kPer + i] = factor * numbers[i];
    }
  }
}

// The numbers of a row [D] that a lane of a simdgroup has.
template <int D>
struct LanePart {
  float x[D / 32];
};

template <int D, typename T>
LanePart<D> load_part(device const T* row, uint lane) {
  LanePart<D> part;
#pragma unroll
  for (int i = 0; i < D / 32; i++) {
    part.x[i] = float(row[lane * (D / 32) + i]);
  }
  return part;
}

// Row t of a value head from threadgroup memory [Dv] to y, by one simdgroup: 0 where the token is not live, else
// normalised and gated if there is a convolution. z and y are [B, T, Hv, Dv].
template <int Dv, typename In>
void store_row(thread const In& in,
               threadgroup const float* from,
               device const typename In::T* z,
               thread const LanePart<Dv>& norm_weight,
               uint t,
               uint head,
               uint lane,
               device typename In::T* y) {
  constexpr int kPer = Dv / int(SIMD_SIZE);
  const size_t at = ((size_t(in.batch) * in.size.tokens + t) * in.size.v_heads + head) * Dv + lane * kPer;
  const bool live = in.live(t);
  float numbers[kPer];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kPer; i++) {
    numbers[i] = live ? from[lane * kPer + i] : 0.0f;
    squares += numbers[i] * numbers[i];
  }
  float factor = 1;
  if constexpr (In::Form::kTaps > 0) {
    factor = rsqrt(simd_sum(squares) / Dv + in.size.norm_eps);
  }
#pragma unroll
  for (int i = 0; i < kPer; i++) {
    float out = factor * numbers[i];
    if constexpr (In::Form::kTaps > 0) {
      const float gate = live ? float(z[at + i]) : 0.0f;
      out = live ? out * norm_weight.x[i] * silu(gate) : 0.0f;
    }
    y[at + i] = typename In::T(out);
  }
}

// The convolution's inputs for the next call: new_conv_state [B, kTaps - 1 + K - 1, channels] holds the last rows of
// those up to the sequence's length (K snapshots: K - 1 more), for `width` channels from `channel` on, by a
// threadgroup.
template <typename In>
void hand_over(thread const In& in,
               uint channel,
               uint width,
               uint thread_index,
               uint threads,
               device typename In::T* new_conv_state) {
  const uint rows = In::Form::kTaps - 1 + in.size.snapshots - 1;
  const int first = int(in.length()) - int(rows);
  for (uint i = thread_index; i < rows * width; i += threads) {
    const uint r = i / width;
    const uint c = channel + i % width;
    new_conv_state[(size_t(in.batch) * rows + r) * in.size.v_row + c] =
        typename In::T(in.at(in.v, in.size.v_row, first + int(r), c));
  }
}
