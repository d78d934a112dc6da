#include <algorithm>

#include "cpu/kernels.h"
#include "cpu/ops.h"
#include "cpu/pool.h"

namespace deltamoe::cpu {

void rms_norm(const void* x, Dtype dtype, int64_t rows, int64_t n, const float* weight, float eps, void* y) {
  const Kernels& kernel = kernels();
  const int64_t chunk = std::max<int64_t>(1, 16384 / std::max<int64_t>(n, 1));  // rows that are worth a task
  Pool::instance().run((rows + chunk - 1) / chunk, [&](int64_t task) {
    Scratch scratch;
    auto* row = scratch.take<float>(n);
    for (int64_t r = task * chunk; r < std::min(rows, (task + 1) * chunk); ++r) {
      kernel.load(offset(x, dtype, r * n), dtype, row, n);
      kernel.rms_norm(row, weight, nullptr, eps, row, n);
      kernel.store(row, offset(y, dtype, r * n), dtype, n);
    }
  });
}

}  // namespace deltamoe::cpu
