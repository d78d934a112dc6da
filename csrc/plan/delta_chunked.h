// The plan of the gated delta rule in chunks: metal/gdn/chunked.h.
#pragma once

#include "plan/delta.h"

namespace deltamoe::plan {

// Whether the kernels cover a shape: a gate per head, one state kept, and tokens.
bool has_chunks(const DeltaShape& shape);

// In chunks of `chunk` tokens: 16, 32 or 64. inputs, outputs: as in plan/delta.h.
Plan delta_chunked(const DeltaShape& shape, uint32_t chunk);

}  // namespace deltamoe::plan
