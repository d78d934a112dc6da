// Every function and variable that compiled kernels may refer to, by name.
#pragma once

#include <string>
#include <unordered_map>

namespace deltamoe::sim {

using Symbols = std::unordered_map<std::string, void*>;

void add_simd_ops(Symbols& symbols);      // SIMD-group and quad-group functions, barriers, the matrix multiplication
void add_math_ops(Symbols& symbols);      // arithmetic
void add_atomic_ops(Symbols& symbols);    // atomics
void add_memory_hooks(Symbols& symbols);  // threadgroup variables; what instrumented kernels call

Symbols all_symbols();

}  // namespace deltamoe::sim
