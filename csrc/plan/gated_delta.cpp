#include "plan/gated_delta.h"

#include <algorithm>
#include <iterator>

#include "plan/delta_chunked.h"
#include "plan/delta_sequential.h"

namespace deltamoe::plan {

namespace {

// From how many tokens on chunks are taken, and of which size, by GPU family. Each row says where it comes from; ours
// have not been timed on hardware.
struct Crossover {
  uint32_t family;
  uint32_t tokens;
  uint32_t chunk;
};

constexpr uint32_t kNever = UINT32_MAX;

constexpr Crossover kCrossovers[] = {
    // M1 to M4: several value rows a simdgroup, token by token, beat chunks end to end (14.9 ms to stock's 29.7 at 16K
    // tokens: omlx; mlx-node#62).
    {7, kNever, 16},
    {8, kNever, 16},
    {9, kNever, 16},
    // M5: chunks won there from 256 tokens (trymirai/uzu gates them so).
    {10, 256, 16},
    // Any other: as the newest.
    {0, 256, 16},
};

const Crossover& crossover(Device device) {
  const auto* found = std::find_if(std::begin(kCrossovers), std::end(kCrossovers),
                                   [&](const Crossover& row) { return row.family == device.family; });
  return found != std::end(kCrossovers) ? *found : *std::prev(std::end(kCrossovers));
}

bool fits(uint32_t dim) { return dim > 0 && dim % 32 == 0 && dim <= 256; }

}  // namespace

bool has_plan(const DeltaShape& shape) {
  return fits(shape.dk) && fits(shape.dv) && shape.k_heads > 0 && shape.v_heads > 0 &&
         shape.v_heads % shape.k_heads == 0 && shape.taps != 1 && shape.taps <= 8 && shape.snapshots >= 1;
}

Plan gated_delta(const DeltaShape& shape, Device device) {
  const Crossover& row = crossover(device);
  const uint32_t chosen = shape.tokens >= row.tokens && has_chunks(shape) ? row.chunk : 0;
  const uint32_t chunk = device.chunk.value_or(chosen);
  return chunk > 0 ? delta_chunked(shape, chunk) : delta_sequential(shape);
}

}  // namespace deltamoe::plan
