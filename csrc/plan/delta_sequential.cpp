#include "plan/delta_sequential.h"

#include <algorithm>
#include <bit>

namespace deltamoe::plan {

namespace {

constexpr uint32_t kLanes = 32;
constexpr uint32_t kRows = 8;  // of S that a simdgroup has

constexpr uint32_t kMostStaged = 8;  // tokens; untested on hardware
constexpr size_t kMemory = 32768;    // of a threadgroup

// Tokens whose q, k, v, gates and, for the convolution's squares, partial sums lie in threadgroup memory at once.
uint32_t staged_tokens(const DeltaShape& shape) {
  const uint32_t gates = (shape.channel_gate ? shape.dk : 1) + 1;
  const size_t floats = size_t{2} * shape.dk + shape.dv + gates + (shape.taps > 0 ? shape.dk / 16 : 0);
  const uint32_t most = kMostStaged * floats * sizeof(float) <= kMemory ? kMostStaged : kMostStaged / 2;
  return std::min(std::bit_ceil(std::max(shape.tokens, 1U)), most);
}

}  // namespace

Plan delta_sequential(const DeltaShape& shape) {
  if (shape.batch == 0) {
    return {};
  }
  return {
      .temporaries = {},
      .dispatches = {{
          .source = "gdn/sequential",
          .function = delta_function("gated_delta_sequential", shape, {shape.dk, shape.dv, staged_tokens(shape)}),
          .grid = {shape.v_heads, shape.batch, 1},
          .threadgroup = {kLanes, shape.dv / kRows, 1},
          .buffers = delta_buffers(shape, 0, shape.tokens),
      }},
  };
}

}  // namespace deltamoe::plan
