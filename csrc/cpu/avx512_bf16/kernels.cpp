#include "cpu/avx512_bf16/dot.h"
#include "cpu/kernels/table.h"

namespace deltamoe::cpu {

const Kernels& avx512_bf16_kernels() {
  static constexpr Kernels table = Table<Avx512Bf16, Bf16Dot>::make("avx512_bf16");
  return table;
}

}  // namespace deltamoe::cpu
