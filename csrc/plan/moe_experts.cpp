#include "plan/moe_experts.h"

#include "plan/moe_decode.h"
#include "plan/moe_prefill.h"

namespace deltamoe::plan {

namespace {

// Up to here each token reads its experts by itself. Untested on hardware.
constexpr uint32_t kMostForDecode = 8;

}  // namespace

bool has_plan(const MoeShape& shape) {
  return shape.experts <= 1024 && shape.k >= 1 && shape.k <= 16 && shape.hidden > 0 && shape.intermediate > 0 &&
         (!shape.has_shared || shape.shared_intermediate > 0);
}

Plan moe_experts(const MoeShape& shape, Device device) {
  return shape.tokens <= kMostForDecode ? moe_decode(shape, device) : moe_prefill(shape, device);
}

}  // namespace deltamoe::plan
