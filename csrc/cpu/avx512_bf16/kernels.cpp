#include <type_traits>

#include "cpu/avx512_bf16/dot.h"
#include "cpu/kernels/table.h"

namespace deltamoe::cpu {

namespace {
template <int Bits, int Terms>
using Dot = std::conditional_t<(Terms < 3), Bf16Dot<Bits, Terms>, FloatDot<Avx512Bf16, Bits>>;
}  // namespace

const Kernels& avx512_bf16_kernels() {
  static constexpr Kernels table = Table<Avx512Bf16, Dot>::make("avx512_bf16");
  return table;
}

}  // namespace deltamoe::cpu
