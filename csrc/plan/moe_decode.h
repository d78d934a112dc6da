// The plan of moe_experts for a few tokens: metal/moe/decode.h.
#pragma once

#include "plan/moe.h"

namespace deltamoe::plan {

// Each token reads its experts by itself, so this is for few of them (1 to 8), though any number gives the result.
// inputs: as in plan/moe.h; output: y.
Plan moe_decode(const MoeShape& shape, Device device);

}  // namespace deltamoe::plan
