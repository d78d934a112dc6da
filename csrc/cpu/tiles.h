// Activation rows in packed tiles, and how much of a matrix one task takes.
#pragma once

#include <algorithm>

#include "cpu/kernels.h"
#include "cpu/pool.h"

namespace deltamoe::cpu {

// `rows` rows in as few tiles as will do, all of nearly the same height.
struct Tiling {
  int64_t rows, count;

  Tiling(const Packing& packing, int64_t rows)
      : rows(rows), count((rows + kernels().tile_rows(packing) - 1) / kernels().tile_rows(packing)) {}
  int64_t first(int64_t i) const { return rows * i / count; }
  int height(int64_t i) const { return static_cast<int>(first(i + 1) - first(i)); }
};

// The largest tile that any kernel table takes.
inline constexpr int kMaxTile = 8;

// Rows of a matrix for one task: enough tasks that all threads end together, each long enough to stream memory.
inline int64_t rows_per_task(int64_t rows, int64_t least, int64_t most) {
  const int64_t wanted = rows / (int64_t{8} * Pool::instance().threads());
  return std::clamp<int64_t>(wanted / 8 * 8, least, most);
}

}  // namespace deltamoe::cpu
