// Work at the limits of the machine, by which benchmarks judge kernels. Each function works on all threads of the pool
// and leaves it to its caller to take the time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deltamoe::cpu {

// Float32 multiply-adds in the widest registers that this CPU has, in independent chains, `tasks` times some 10^4
// turns. Returns how many floating-point operations that was, two a multiply-add; 0 where this build has no such code.
double multiply_f32(int64_t tasks);

// The same with dot products of bfloat16 pairs into float32; 0 where this CPU has no such instruction, or on Arm, whose
// kernels do not use it.
double multiply_bf16(int64_t tasks);

// Reads every word once, in order. Returns their sum modulo 2^64.
uint64_t read_all(const uint64_t* data, size_t words);

}  // namespace deltamoe::cpu
