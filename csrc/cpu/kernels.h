// The kernels that every instruction set provides, as one table of functions. The drivers (qlinear.cpp,
// moe_experts.cpp, ...) split the work over threads and call through the table; they hold no vector code. Each kernel's
// contract is here, its mathematics in kernels/*.h, its vectors in <instruction set>/vec.h.
#pragma once

#include "cpu/types.h"

namespace deltamoe::cpu {

// How many bf16 numbers add up to an activation of this dtype exactly.
inline constexpr int terms_of(Dtype dtype) { return dtype == Dtype::bf16 ? 1 : dtype == Dtype::f16 ? 2 : 3; }

// How a tile of activation rows is laid out for multiplication by a quantised matrix. Where the instruction set has
// bf16 products, activations of one or two terms are multiplied as such; else, and where it takes three, as floats.
struct Packing {
  int64_t cols = 0;
  int bits = 4;
  int group = 64;
  int terms = 3;

  Packing(const Quantized& w, int terms) : cols(w.cols), bits(w.bits), group(w.group), terms(terms) {}
  bool operator==(const Packing&) const = default;
};

// A row of queries so far: the largest logit, and the sum of exponentials against it.
struct Softmax {
  float max;
  float sum;
};

struct Kernels {
  const char* name;

  // How many activation rows make a good tile: as many as stay in the first cache while rows of w go by.
  int (*tile_rows)(const Packing&);
  // Bytes of a packed tile, a multiple of 64.
  size_t (*tile_bytes)(const Packing&, int rows);
  // Pack `rows` activation rows (each `cols` contiguous elements) into `tile`, aligned to 64.
  void (*pack)(const Packing&, int rows, const void* const* x, Dtype, void* tile);
  // y[m * stride + n - n0] = sum_k w[n][k] x[m][k] for n0 <= n < n1 and m < rows.
  void (*multiply)(const Quantized& w, const Packing&, int64_t n0, int64_t n1, int rows, const void* tile, float* y,
                   int64_t stride);

  void (*load)(const void* x, Dtype, float* y, int64_t n);
  void (*gather)(const void* x, Dtype, int64_t stride, float* y, int64_t n);  // every stride-th element
  void (*store)(const float* x, void* y, Dtype, int64_t n);
  void (*add_scaled)(float scale, const float* x, float* y, int64_t n);     // y += scale * x
  void (*scale)(float scale, float* x, int64_t n);                          // x *= scale
  void (*swiglu)(const float* gate, const float* up, float* h, int64_t n);  // h = silu(gate) * up
  void (*gate)(const float* gate, float* x, int64_t n);                     // x *= sigmoid(gate)
  // sum_i exp(x[i] - shift)
  float (*exp_sum)(const float* x, float shift, int64_t n);
  // y = x / sqrt(mean(x^2) + eps) * weight (weight may be null); gate, if any: * silu(gate).
  void (*rms_norm)(const float* x, const float* weight, const float* gate, float eps, float* y, int64_t n);
  // y = x / sqrt(sum(x^2) + eps) * scale, in place
  void (*l2_norm)(float* x, float eps, float scale, int64_t n);
  // y[c] = silu(sum_j taps[j][c] * x[j][c]): one token of the causal depthwise convolution.
  void (*conv_silu)(const float* const* x, const float* const* taps, int width, float* y, int64_t n);

  // One head of the gated delta rule over `tokens` tokens; see kernels/gated_delta.h.
  void (*gated_delta_rows)(const struct DeltaHead&);
  void (*gated_delta_chunks)(const struct DeltaHead&);
  size_t (*gated_delta_scratch)(int dk, int dv);  // floats that `scratch` must hold for the chunked form

  // One tile of query rows against keys [s0, s1); see kernels/attention.h.
  void (*attention)(const struct AttentionTile&, int64_t s0, int64_t s1, Softmax* state, float* out);
  size_t (*attention_scratch)(int rows, int dim);  // floats
};

// One head: q, k [tokens][dk], v, y [tokens][dv] with the given strides, gates, and the state [dv][dk], updated in
// place.
struct DeltaHead {
  int64_t tokens;
  int dk, dv;
  const float *q, *k, *v;
  float* y;
  int64_t qk_stride, v_stride, y_stride;
  const double* g;  // scalar gates, [tokens] with g_stride; double so that products of many stay exact to f32
  // or gates per key channel, [tokens][dk] with g_stride: base + rest, base 1 for those near 1 and 0 for others
  const float *channel_base, *channel_rest;
  const float* beta;  // [tokens] with beta_stride
  int64_t g_stride, beta_stride;
  const bool* mask;  // [tokens] or null: where false the state stays and y is 0
  float* state;
  float* scratch;
};

// `rows` query rows that share one key / value head. Keys and values are read where they lie, at any strides.
struct AttentionTile {
  int rows, dim;
  const float* q;        // [rows][dim], scaled
  const int64_t* limit;  // [rows]: row r sees keys below limit[r]
  const void *k, *v;
  Dtype dtype;
  int64_t k_stride, v_stride;  // elements between keys
  int64_t k_inner, v_inner;    // elements between channels
  float* scratch;
};

// The table in use: the best this CPU can run, DELTAMOE_ISA if set, or what use_isa chose.
const Kernels& kernels();

}  // namespace deltamoe::cpu
