// What the lanes of a simdgroup compute together. Each operation is a Combine: it reads the operands that the lanes
// left in the SimdGroup and replaces `value` by each lane's result.
#pragma once

#include "sim/symbols.h"
#include "sim/worker.h"

namespace deltamoe::sim {

// d = a b + c for 8 x 8 matrices, k ascending, each step one fma in float32.
Combine multiply_accumulate_op();

bool is_simd_barrier(Combine op);

// Whether it is work for the SIMD unit: not a simdgroup_barrier, nor what the compiler asks about its own values.
bool is_simd_op(Combine op);

// Whether the operation is wrong, or likely meant otherwise, when only `active` of the lanes come to it.
bool minds_inactive_lanes(Combine op, uint32_t active);

}  // namespace deltamoe::sim
