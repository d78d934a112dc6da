#include "cpu/neon/vec.h"
#include "cpu/kernels/table.h"

namespace deltamoe::cpu {

namespace {
template <int Bits, bool>
using Dot = FloatDot<Neon, Bits>;
}  // namespace

const Kernels& neon_kernels() {
  static constexpr Kernels table = Table<Neon, Dot>::make("neon");
  return table;
}

}  // namespace deltamoe::cpu
