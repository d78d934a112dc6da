// The plan of moe_router: metal/moe/router.h.
#pragma once

#include "plan/plan.h"

namespace deltamoe::plan {

struct RouterShape {
  uint32_t tokens;
  uint32_t experts;
  uint32_t k;
  Type type;  // of the logits
  bool normalize;
};

// Whether the kernel covers a shape: up to 1,024 experts, of which up to 32 are chosen.
bool has_plan(const RouterShape& shape);

// inputs: logits; outputs: indices, scores.
Plan moe_router(const RouterShape& shape, Device device);

}  // namespace deltamoe::plan
