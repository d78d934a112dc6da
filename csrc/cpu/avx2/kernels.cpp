#include "cpu/avx2/vec.h"
#include "cpu/kernels/table.h"

namespace deltamoe::cpu {

namespace {
template <int Bits, int>
using Dot = FloatDot<Avx2, Bits>;
}  // namespace

const Kernels& avx2_kernels() {
  static constexpr Kernels table = Table<Avx2, Dot>::make("avx2");
  return table;
}

}  // namespace deltamoe::cpu
