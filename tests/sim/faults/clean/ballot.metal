// Votes.
#include <metal_stdlib>
using namespace metal;

kernel void votes(
    device const float* x [[buffer(0)]],
    device float* y [[buffer(1)]],
    uint i [[thread_position_in_grid]]) {
  bool large = x[i] > 0.5f;
  ulong mask = ulong(static_cast<simd_vote::vote_t>(simd_ballot(large)));
  y[i] = float(popcount(mask)) + (simd_any(large) ? 0.5f : 0.0f);
}
