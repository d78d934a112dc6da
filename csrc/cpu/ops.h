// The CPU back end's ops: split over threads here, computed by the kernels of the instruction set in use. All memory is
// contiguous unless strides are given; outputs do not overlap inputs unless said so. Results do not depend on the
// number of threads, nor on which other tokens are in the call.
#pragma once

#include "cpu/types.h"

namespace deltamoe::cpu {

// y [m, N] = x [m, K] w^T, both x and y of `dtype`.
void qlinear(const void* x, Dtype dtype, int64_t m, const Quantized& w, void* y);

// indices, scores [tokens, k] of the k largest of softmax(logits [tokens, experts]).
void moe_router(const void* logits, Dtype dtype, int64_t tokens, int experts, int k, bool normalize, uint32_t* indices,
                float* scores);

struct Mlp {
  Quantized gate, up, down;
};

struct MoeExperts {
  const void* x;  // [tokens, H]
  Dtype dtype;    // of x and y
  int64_t tokens;
  const int64_t* indices;  // [tokens, k]
  const float* scores;     // [tokens, k]
  int k;
  int64_t experts;
  Mlp routed;                    // the first of a stack of `experts`
  const Mlp* shared;             // or null
  const Quantized* shared_gate;  // or null
  void* y;                       // [tokens, H]
};
// Throws std::out_of_range for an index outside [0, experts), before anything is read.
void moe_experts(const MoeExperts& op);

struct GatedDelta {
  int64_t batch, tokens;
  int k_heads, v_heads, dk, dv;
  Dtype dtype;                   // of q, k, v, z, y and the convolution
  const void *q, *k, *v;         // [batch, tokens, heads, dim]; null with a convolution
  const void *a, *b;             // [batch, tokens, v_heads], a with [dk] behind if channel_gate
  Dtype gate_dtype;              // of a and b
  const float *A_log, *dt_bias;  // [v_heads], dt_bias with [dk] behind if channel_gate
  bool channel_gate;
  bool allow_neg_eigval;
  const bool* mask;       // [batch, tokens] or null
  const float* state_in;  // [batch, v_heads, dv, dk], or null for zeros; may be `state` itself
  float* state;           // [batch, snapshots, v_heads, dv, dk]: those after the last tokens, the newest last
  int64_t snapshots = 1;  // at most `tokens`, but for one, which may be that of no tokens
  void* y;                // [batch, tokens, v_heads, dv]

  // The block: q, k and v come out of a convolution and are normalised, y is normalised and gated.
  const struct DeltaBlock* block = nullptr;
};

inline constexpr int kMaxTaps = 8;  // of the convolution

struct DeltaBlock {
  const void* qkv;          // [batch, tokens, channels]
  const void* z;            // [batch, tokens, v_heads, dv]
  const void* conv_state;   // [batch, width - 1, channels], or null for zeros
  const void* conv_weight;  // [channels, width]
  Dtype conv_dtype;         // of conv_weight
  int width;
  const float* norm_weight;  // [dv]
  float norm_eps;
  const int64_t* ends;   // [batch]: how many tokens count, for the new conv_state
  void* new_conv_state;  // [batch, width - 1 + snapshots - 1, channels]: what comes before `ends`
};
void gated_delta(const GatedDelta& op);

// y = x / sqrt(mean(x^2) + eps) * weight over rows of n; weight float or null.
void rms_norm(const void* x, Dtype dtype, int64_t rows, int64_t n, const float* weight, float eps, void* y);

struct Attention {
  int64_t batch, tokens, keys;
  int q_heads, kv_heads, dim;
  Dtype dtype;
  const void *q, *k, *v;  // [batch, heads, tokens or keys, dim] with these strides, in elements
  int64_t q_strides[4], k_strides[4], v_strides[4];
  const void* gate;  // [batch, tokens, q_heads * dim] with these strides, or null
  int64_t gate_strides[3];
  float scale;
  bool causal;
  void* y;  // [batch, tokens, q_heads, dim]
};
void attention(const Attention& op);

}  // namespace deltamoe::cpu
