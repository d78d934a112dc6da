#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cpu/kernels.h"
#include "cpu/ops.h"
#include "cpu/pool.h"

namespace deltamoe::cpu {

namespace {

// The k largest by (logit, index), ascending; `order` is [experts] to work in.
void choose(const float* logits, int experts, int k, uint32_t* order, uint32_t* indices) {
  std::iota(order, order + experts, 0U);
  const auto larger = [&](uint32_t i, uint32_t j) {
    return logits[i] > logits[j] || (logits[i] == logits[j] && i > j);
  };
  std::partial_sort(order, order + k, order + experts, larger);
  std::reverse_copy(order, order + k, indices);
}

// Overwrites `logits`.
void route(const Kernels& kernel, float* logits, int experts, int k, bool normalize, uint32_t* order, uint32_t* indices,
           float* scores) {
  const float max = *std::max_element(logits, logits + experts);
  // A NaN makes every probability NaN, and so does a largest logit that is not finite.
  const bool broken =
      !std::isfinite(max) || std::any_of(logits, logits + experts, [](float x) { return std::isnan(x); });
  if (broken) {
    std::iota(indices, indices + k, static_cast<uint32_t>(experts - k));
    std::fill(scores, scores + k, std::numeric_limits<float>::quiet_NaN());
    return;
  }
  constexpr float kNothing = -104;  // the exponential of anything less is 0 in float: such experts tie
  for (int e = 0; e < experts; ++e) {
    logits[e] = std::max(logits[e] - max, kNothing);
  }
  choose(logits, experts, k, order, indices);
  float sum = 0;
  for (int j = 0; j < k; ++j) {
    scores[j] = std::exp(logits[indices[j]]);
    sum += scores[j];
  }
  if (!normalize) {
    sum = kernel.exp_sum(logits, 0, experts);
  }
  for (int j = 0; j < k; ++j) {
    scores[j] /= sum;
  }
}

}  // namespace

void moe_router(const void* logits, Dtype dtype, int64_t tokens, int experts, int k, bool normalize, uint32_t* indices,
                float* scores) {
  constexpr int64_t kTokens = 16;  // of a task
  const Kernels& kernel = kernels();
  Pool::instance().run((tokens + kTokens - 1) / kTokens, [&](int64_t task) {
    Scratch scratch;
    auto* row = scratch.take<float>(experts);
    auto* order = scratch.take<uint32_t>(experts);
    for (int64_t t = task * kTokens; t < std::min(tokens, (task + 1) * kTokens); ++t) {
      kernel.load(offset(logits, dtype, t * experts), dtype, row, experts);
      route(kernel, row, experts, k, normalize, order, indices + t * k, scores + t * k);
    }
  });
}

}  // namespace deltamoe::cpu
