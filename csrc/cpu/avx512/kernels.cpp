#include "cpu/avx512/vec.h"
#include "cpu/kernels/table.h"

namespace deltamoe::cpu {

namespace {
template <int Bits, int>
using Dot = FloatDot<Avx512, Bits>;
}  // namespace

const Kernels& avx512_kernels() {
  static constexpr Kernels table = Table<Avx512, Dot>::make("avx512");
  return table;
}

}  // namespace deltamoe::cpu
