// Hands a plan to Metal.
#pragma once

#include "mlx/mlx.h"
#include "plan/plan.h"

namespace deltamoe::metal {

namespace mx = mlx::core;

// Whether there is a Metal device; what it is.
bool available();
plan::Device device();

// Encodes the plan's dispatches on a GPU stream: inputs are row-contiguous, outputs have their memory.
void encode(const plan::Plan& plan, mx::Stream stream, const std::vector<mx::array>& inputs,
            std::vector<mx::array>& outputs);

}  // namespace deltamoe::metal
