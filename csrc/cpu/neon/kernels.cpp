#include "cpu/kernels/table.h"
#include "cpu/neon/vec.h"

namespace deltamoe::cpu {

namespace {
template <int Bits, int>
using Dot = FloatDot<Neon, Bits>;
}  // namespace

const Kernels& neon_kernels() {
  static constexpr Kernels table = Table<Neon, Dot>::make("neon");
  return table;
}

}  // namespace deltamoe::cpu
