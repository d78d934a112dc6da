#include "cpu/ops.h"
#include "cpu/tiles.h"

namespace deltamoe::cpu {

// 1. pack the rows of x into tiles      2. each task: some rows of w against all tiles
void qlinear(const void* x, Dtype dtype, int64_t m, const Quantized& w, void* y) {
  if (m == 0 || w.rows == 0) {
    return;
  }
  const Kernels& kernel = kernels();
  Pool& pool = Pool::instance();
  const Packing packing(w, terms_of(dtype));
  const Tiling tiling(packing, m);
  const size_t tile_bytes = kernel.tile_bytes(packing, kMaxTile);
  Scratch scratch;
  char* tiles = scratch.take<char>(tiling.count * tile_bytes);
  pool.run(tiling.count, [&](int64_t i) {
    const void* rows[kMaxTile];
    for (int r = 0; r < tiling.height(i); ++r) {
      rows[r] = offset(x, dtype, (tiling.first(i) + r) * w.cols);
    }
    kernel.pack(packing, tiling.height(i), rows, dtype, tiles + i * tile_bytes);
  });

  const int64_t chunk = rows_per_task(w.rows, 8, 128);
  pool.run((w.rows + chunk - 1) / chunk, [&](int64_t task) {
    const int64_t n0 = task * chunk;
    const int64_t n1 = std::min(n0 + chunk, w.rows);
    float part[kMaxTile * 128];
    for (int64_t i = 0; i < tiling.count; ++i) {
      kernel.multiply(w, packing, n0, n1, tiling.height(i), tiles + i * tile_bytes, part, chunk);
      for (int r = 0; r < tiling.height(i); ++r) {
        kernel.store(part + r * chunk, offset(y, dtype, (tiling.first(i) + r) * w.rows + n0), dtype, n1 - n0);
      }
    }
  });
}

}  // namespace deltamoe::cpu
