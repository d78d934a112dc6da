#include "sim/fiber.h"

#include <cstring>

#if defined(__APPLE__)
#define SYMBOL "_deltamoe_sim_switch"
#else
#define SYMBOL "deltamoe_sim_switch"
#endif

#if defined(__x86_64__)
asm(R"(
.text
.globl )" SYMBOL R"(
)" SYMBOL R"(:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 2
.globl )" SYMBOL R"(
)" SYMBOL R"(:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
#else
#error "metalsim: no context switch for this processor: add one to csrc/sim/fiber.cpp"
#endif

namespace deltamoe::sim {

void* fiber_prepare(char* top, void (*entry)()) {
#if defined(__x86_64__)
  // From the top: a null return address for `entry`, which keeps the stack aligned as after a call; `entry`, to which
  // the switch returns; six zeroed registers.
  constexpr size_t words = 8;
  auto* frame = reinterpret_cast<uint64_t*>(top) - words;
  memset(frame, 0, words * sizeof *frame);
  frame[6] = reinterpret_cast<uint64_t>(entry);
#else
  constexpr size_t words = 20;
  auto* frame = reinterpret_cast<uint64_t*>(top) - words;
  memset(frame, 0, words * sizeof *frame);
  frame[11] = reinterpret_cast<uint64_t>(entry);  // x30
#endif
  return frame;
}

}  // namespace deltamoe::sim
