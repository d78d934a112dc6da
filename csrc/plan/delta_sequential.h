// The plan of the gated delta rule token by token: metal/gdn/sequential.h.
#pragma once

#include "plan/delta.h"

namespace deltamoe::plan {

// For any number of tokens, in one dispatch. inputs, outputs: as in plan/delta.h.
Plan delta_sequential(const DeltaShape& shape);

}  // namespace deltamoe::plan
