#include "cpu/features.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "cpu/kernels.h"

namespace deltamoe::cpu {

const Kernels& portable_kernels();
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
const Kernels& avx512_bf16_kernels();
const Kernels& neon_kernels();

namespace {

std::vector<const Kernels*> available() {
  std::vector<const Kernels*> tables = {&portable_kernels()};
#ifdef DELTAMOE_HAVE_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    tables.push_back(&avx2_kernels());
  }
#endif
#ifdef DELTAMOE_HAVE_AVX512
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  if (avx512) {
    tables.push_back(&avx512_kernels());
  }
#ifdef DELTAMOE_HAVE_AVX512_BF16
  if (avx512 && __builtin_cpu_supports("avx512bf16")) {
    tables.push_back(&avx512_bf16_kernels());
  }
#endif
#endif
#ifdef DELTAMOE_HAVE_NEON
  tables.push_back(&neon_kernels());
#endif
  return tables;
}

const Kernels* find(std::string_view name) {
  for (const Kernels* table : available()) {
    if (name == table->name) {
      return table;
    }
  }
  std::string known;
  for (const Kernels* table : available()) {
    known += (known.empty() ? "" : ", ") + std::string(table->name);
  }
  throw std::invalid_argument("[deltamoe] instruction set '" + std::string(name) +
                              "' cannot run here. Choose one of: " + known + ".");
}

std::atomic<const Kernels*>& in_use() {
  static std::atomic<const Kernels*> table = [] {
    const char* wanted = std::getenv("DELTAMOE_ISA");
    return wanted && *wanted ? find(wanted) : available().back();
  }();
  return table;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Kernels* table : available()) {
    names.emplace_back(table->name);
  }
  return names;
}

const Kernels& kernels() { return *in_use().load(std::memory_order_relaxed); }

std::string isa() { return kernels().name; }

void use_isa(std::string_view name) { in_use() = find(name); }

}  // namespace deltamoe::cpu
