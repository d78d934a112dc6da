#include "plan/moe_router.h"

#include <algorithm>
#include <bit>

namespace deltamoe::plan {

namespace {

constexpr uint32_t kLanes = 32;
constexpr uint32_t kMostPerLane = 32;  // logits that a lane holds in registers
constexpr uint32_t kSimdgroups = 8;    // of a threadgroup, a token each; untested on hardware

}  // namespace

bool has_plan(const RouterShape& shape) { return shape.experts <= kLanes * kMostPerLane && shape.k <= kLanes; }

Plan moe_router(const RouterShape& shape, Device) {
  if (shape.tokens == 0) {
    return {};
  }
  const uint32_t per_lane = std::bit_ceil(ceil_div(shape.experts, kLanes));
  const uint32_t simdgroups = std::min(shape.tokens, kSimdgroups);
  Dispatch dispatch{
      .source = "moe/router",
      .function = std::string("moe_router<") + name(shape.type) + ", " + std::to_string(per_lane) + ", " +
                  (shape.normalize ? "true" : "false") + ">",
      .grid = {ceil_div(shape.tokens, simdgroups), 1, 1},
      .threadgroup = {kLanes, simdgroups, 1},
      .buffers = {input(0), output(0), output(1), bytes(shape.tokens), bytes(shape.experts), bytes(shape.k)},
  };
  return {.temporaries = {}, .dispatches = {dispatch}};
}

}  // namespace deltamoe::plan
