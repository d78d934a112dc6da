#include "plan/delta_chunked.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace deltamoe::plan {

namespace {

constexpr uint32_t kLanes = 32;
constexpr uint32_t kTile = 8;

// Tokens of two dispatches. What gated_delta_prepare leaves to gated_delta_chunked is bounded by it: 27 MB for chunks
// of 16 tokens and 32 value heads.
constexpr uint32_t kSegment = 8192;

// Columns of S^T, value rows, that a simdgroup has; as in metal/gdn/chunked.h.
uint32_t columns(const DeltaShape& shape) { return shape.dk > 128 ? 8 : 16; }

// Bytes that gated_delta_prepare stores for a chunk and value head: the lower tiles of M and P [C][C], G and its tail
// [C].
size_t block_bytes(uint32_t chunk) {
  const size_t tiles = size_t{chunk / kTile} * (chunk / kTile + 1) / 2;
  return sizeof(float) * 2 * (tiles * kTile * kTile + chunk);
}

}  // namespace

bool has_chunks(const DeltaShape& shape) { return !shape.channel_gate && shape.snapshots == 1 && shape.tokens > 0; }

Plan delta_chunked(const DeltaShape& shape, uint32_t chunk) {
  if (!has_chunks(shape) || (chunk != 16 && chunk != 32 && chunk != 64)) {
    throw std::invalid_argument("[gated_delta] no kernel takes these tokens in chunks of " + std::to_string(chunk) +
                                ".");
  }
  if (shape.batch == 0) {
    return {};
  }
  const uint32_t most_chunks = ceil_div(std::min(shape.tokens, kSegment), chunk);
  Plan plan{.temporaries = {size_t{shape.batch} * most_chunks * shape.v_heads * block_bytes(chunk)}, .dispatches = {}};
  for (uint32_t first = 0; first < shape.tokens; first += kSegment) {
    const uint32_t last = std::min(first + kSegment, shape.tokens);
    std::vector<Operand> buffers = delta_buffers(shape, first, last);
    buffers.push_back(temporary(0));
    plan.dispatches.push_back({
        .source = "gdn/chunked",
        .function = delta_function("gated_delta_prepare", shape, {shape.dk, chunk}),
        .grid = {ceil_div(last - first, chunk), shape.k_heads, shape.batch},
        .threadgroup = {kLanes, chunk / kTile, 1},
        .buffers = buffers,
    });
    plan.dispatches.push_back({
        .source = "gdn/chunked",
        .function = delta_function("gated_delta_chunked", shape, {shape.dk, shape.dv, chunk}),
        .grid = {shape.v_heads, shape.batch, 1},
        .threadgroup = {kLanes, shape.dv / columns(shape), 1},
        .buffers = buffers,
    });
  }
  return plan;
}

}  // namespace deltamoe::plan
