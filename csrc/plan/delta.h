// What the plans of the gated delta rule depend on, and what all kernels of metal/gdn are given.
#pragma once

#include <string>
#include <vector>

#include "plan/plan.h"

namespace deltamoe::plan {

// The rule, with taps > 0 as the block: between a convolution and a gated normalisation (metal/common/delta.h).
struct DeltaShape {
  uint32_t batch, tokens;
  uint32_t k_heads, v_heads, dk, dv;
  Type type;                   // of q, k, v, z, conv_state and y
  Type gates, A_log, dt_bias;  // `gates` of a and b
  Type conv = Type::float32;   // of conv_weight
  Type norm = Type::float32;   // of norm_weight
  uint32_t taps = 0;           // of the convolution; 0: none
  bool state = false;          // each: whether there is such an input
  bool conv_state = false;
  bool mask = false;
  bool lengths = false;  // int32
  bool allow_neg_eigval = false;
  bool channel_gate = false;  // a is [B, T, Hv, Dk]
  uint32_t snapshots = 1;     // states kept, those after the last tokens
  float norm_eps = 0;
};

// inputs of the rule:  q, k, v, a, b, A_log, dt_bias;                              outputs: y, state
// inputs of the block: qkv, z, a, b, conv_weight, A_log, dt_bias, norm_weight;     outputs: y, conv_state, state
// Behind them those there are of conv_state, state, mask and lengths, in this order.

// The buffers that every kernel has, for the tokens `first` <= t < `last`.
std::vector<Operand> delta_buffers(const DeltaShape& shape, uint32_t first, uint32_t last);

// A kernel's name with its template arguments: the types and the form of a shape, then `numbers`.
std::string delta_function(const char* kernel, const DeltaShape& shape, const std::vector<uint32_t>& numbers);

}  // namespace deltamoe::plan
