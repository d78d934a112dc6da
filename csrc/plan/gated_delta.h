// The plan of gated_delta and gated_delta_block.
#pragma once

#include "plan/delta.h"

namespace deltamoe::plan {

// Whether the kernels cover a shape: head dimensions that are multiples of 32 up to 256, and up to 8 taps.
bool has_plan(const DeltaShape& shape);

// inputs, outputs: as in plan/delta.h.
Plan gated_delta(const DeltaShape& shape, Device device);

}  // namespace deltamoe::plan
