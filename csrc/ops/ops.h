// The public ops. What each computes, its shapes, dtypes and errors: python/deltamoe/ops.py.
#pragma once

#include <optional>
#include <tuple>

#include "ops/quantized.h"

namespace deltamoe {

using Maybe = std::optional<mx::array>;

mx::array qlinear(const mx::array& x, const Quantized& w, mx::StreamOrDevice s);

std::tuple<mx::array, mx::array> moe_router(const mx::array& logits, int k, bool normalize, mx::StreamOrDevice s);

struct Mlp {
  Quantized gate, up, down;
};

mx::array moe_experts(const mx::array& x, const mx::array& indices, const mx::array& scores, const Mlp& routed,
                      const std::optional<Mlp>& shared, const std::optional<Quantized>& shared_gate,
                      mx::StreamOrDevice s);

std::tuple<mx::array, mx::array> gated_delta(const mx::array& q, const mx::array& k, const mx::array& v,
                                             const mx::array& a, const mx::array& b, const mx::array& A_log,
                                             const mx::array& dt_bias, const Maybe& state, const Maybe& mask,
                                             const Maybe& lengths, bool allow_neg_eigval, int snapshots,
                                             mx::StreamOrDevice s);

std::tuple<mx::array, mx::array, mx::array> gated_delta_block(const mx::array& qkv, const mx::array& z,
                                                              const mx::array& a, const mx::array& b,
                                                              const mx::array& conv_weight, const mx::array& A_log,
                                                              const mx::array& dt_bias, const mx::array& norm_weight,
                                                              const Maybe& conv_state, const Maybe& state,
                                                              const Maybe& mask, const Maybe& lengths, int num_k_heads,
                                                              float norm_eps, int snapshots, mx::StreamOrDevice s);

mx::array rms_norm(const mx::array& x, const Maybe& weight, float eps, mx::StreamOrDevice s);

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale, const Maybe& gate,
                    bool causal, mx::StreamOrDevice s);

}  // namespace deltamoe
