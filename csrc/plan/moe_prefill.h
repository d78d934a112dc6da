// The plan of moe_experts for many tokens: metal/moe/{worklist,gemm,combine}.h.
#pragma once

#include "plan/moe.h"

namespace deltamoe::plan {

// inputs: as in plan/moe.h; output: y. For any number of tokens, and up to 1,024 experts.
Plan moe_prefill(const MoeShape& shape, Device device);

}  // namespace deltamoe::plan
