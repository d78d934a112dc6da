#include "cpu/kernels/table.h"
#include "cpu/portable/vec.h"

namespace deltamoe::cpu {

namespace {
template <int Bits, int>
using Dot = FloatDot<Portable, Bits>;
}  // namespace

const Kernels& portable_kernels() {
  static constexpr Kernels table = Table<Portable, Dot>::make("portable");
  return table;
}

}  // namespace deltamoe::cpu
