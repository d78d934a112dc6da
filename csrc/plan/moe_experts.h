// The plan of moe_experts for any number of tokens.
#pragma once

#include "plan/moe.h"

namespace deltamoe::plan {

// Whether the kernels cover a shape: up to 1,024 experts, of which each token has up to 16.
bool has_plan(const MoeShape& shape);

// inputs: as in plan/moe.h; output: y.
Plan moe_experts(const MoeShape& shape, Device device);

}  // namespace deltamoe::plan
