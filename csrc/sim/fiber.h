// Stackful coroutines: one per lane. A switch saves the callee-saved registers on the stack it leaves and takes those
// of the stack it enters; it touches neither the signal mask nor the floating-point environment, so it costs a few ns.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" void deltamoe_sim_switch(void** save, void* to);

namespace deltamoe::sim {

// Leaves the running stack, storing in *save where it can be entered again, and enters `to`.
inline void fiber_switch(void** save, void* to) { deltamoe_sim_switch(save, to); }

// A value to switch to that calls `entry` on the stack that ends at `top` (16-byte aligned). `entry` must not return.
void* fiber_prepare(char* top, void (*entry)());

}  // namespace deltamoe::sim
