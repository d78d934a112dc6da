// The router of a mixture of experts: p = softmax(logits), the k largest, divided by their sum if kNormalize.
//
//   logits [tokens, experts] T; indices [tokens, k] uint, scores [tokens, k] float: ascending by (p, index)
//   experts <= 32 kPerLane, k <= 32 and k <= experts
//   grid: a simdgroup for each token, several to a threadgroup
//
// Of equal probabilities those with the larger index are chosen, as by mx.argpartition, a stable ascending sort on
// Apple GPUs. A row that holds a NaN, or whose largest logit is infinite, has NaN scores and the last k indices.
//
// 1. load the row: expert e = 32 i + lane is in value[i] of its lane, as its distance from the largest logit
// 2. k times: the largest value of all lanes, of equal ones that of the largest index; take it out
// 3. probabilities: lane j has that of the j-th result
#pragma once

#include <metal_stdlib>

using namespace metal;

template <typename T, int kPerLane, bool kNormalize>
[[kernel]] void moe_router(device const T* logits [[buffer(0)]],
                           device uint* indices [[buffer(1)]],
                           device float* scores [[buffer(2)]],
                           constant uint& tokens [[buffer(3)]],
                           constant uint& experts [[buffer(4)]],
                           constant uint& k [[buffer(5)]],
                           uint group [[threadgroup_position_in_grid]],
                           uint simdgroup [[simdgroup_index_in_threadgroup]],
                           uint simdgroups [[simdgroups_per_threadgroup]],
                           uint lane [[thread_index_in_simdgroup]]) {
  constexpr float kNothing = -104.0f;  // the exponential of anything less is 0: such experts tie
  const uint token = group * simdgroups + simdgroup;
  if (token >= tokens) {
    return;
  }

  // 1.
  logits += size_t(token) * experts;
  float value[kPerLane];
  float largest = -INFINITY;
  bool broken = false;
#pragma unroll
  for (uint i = 0; i < kPerLane; i++) {
    const uint e = 32 * i + lane;
    value[i] = e < experts ? float(logits[e]) : -INFINITY;
    largest = max(largest, value[i]);
    broken = broken || isnan(value[i]);
  }
  largest = simd_max(largest);
  broken = simd_any(broken) || isinf(largest);
  float sum = 0;
#pragma unroll
  for (uint i = 0; i < kPerLane; i++) {
    if (32 * i + lane < experts) {
      value[i] = max(value[i] - largest, kNothing);
      sum += kNormalize ? 0.0f : exp(value[i]);
    }
  }

  // 2.
  uint index = experts - k + lane;
  float distance = NAN;
  for (uint j = k; j-- > 0 && !broken;) {
    float best = value[0];
    uint at = lane;
#pragma unroll
    for (uint i = 1; i < kPerLane; i++) {
      at = value[i] >= best ? 32 * i + lane : at;
      best = max(best, value[i]);
    }
    const float chosen = simd_max(best);
    const uint chosen_at = simd_max(best == chosen ? at : 0);
#pragma unroll
    for (uint i = 0; i < kPerLane; i++) {
      value[i] = 32 * i + lane == chosen_at ? -INFINITY : value[i];
    }
    if (lane == j) {
      index = chosen_at;
      distance = chosen;
    }
  }

  // 3.
  const float p = lane < k ? exp(distance) : 0.0f;
  sum = simd_sum(kNormalize ? p : sum);
  if (lane < k) {
    indices[size_t(token) * k + lane] = index;
    scores[size_t(token) * k + lane] = p / sum;
  }
}
