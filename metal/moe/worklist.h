// The work list of the prefill kernels: which rows go to which expert, in tiles of at most kRows rows.
//
// A pair is a token with one of its k experts: pair p = token * k + slot. A row is a pair's place after sorting by
// (expert, pair), so an expert's rows lie together and in the order of its tokens, whatever order threads run in.
//
//   tokens [pairs]   the token of each row
//   rows [pairs]     the row of each pair
//   tiles [..]       (expert, first row, rows), by expert; room for (pairs + min(experts, pairs) (kRows - 1)) / kRows
//   count [1]        their number
#pragma once

#include <metal_stdlib>

using namespace metal;

struct Tile {
  uint expert;
  uint row;
  uint rows;
};

struct WorkSizes {
  uint pairs;
  uint k;
  uint experts;  // 1 to 1,024
};

constant constexpr uint MAX_EXPERTS = 1024;
constant constexpr uint WORK_SIMDGROUPS = 8;
constant constexpr uint WORK_THREADS = 32 * WORK_SIMDGROUPS;

// indices [pairs]; a pair whose index names no expert has no row.
//
// Grid: ceil(experts / 8) threadgroups of 8 simdgroups; a simdgroup to an expert e. No threadgroup waits for another:
// each counts for itself, which reads all indices from the cache.
//   1. Count the pairs of every expert.
//   2. Sum the rows and the tiles of the experts before e.
//   3. Write e's tiles.
//   4. Walk through the pairs again and hand out e's rows in order.
template <uint kRows>
[[kernel]] void moe_worklist(device const uint* indices [[buffer(0)]],
                             device uint* tokens [[buffer(1)]],
                             device uint* rows [[buffer(2)]],
                             device Tile* tiles [[buffer(3)]],
                             device uint* count [[buffer(4)]],
                             constant WorkSizes& sizes [[buffer(5)]],
                             uint group [[threadgroup_position_in_grid]],
                             uint thread_index [[thread_index_in_threadgroup]],
                             uint simdgroup [[simdgroup_index_in_threadgroup]],
                             uint lane [[thread_index_in_simdgroup]]) {
  threadgroup atomic_uint counts[MAX_EXPERTS];

  // 1.
  for (uint i = thread_index; i < sizes.experts; i += WORK_THREADS) {
    atomic_store_explicit(&counts[i], 0, memory_order_relaxed);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint p = thread_index; p < sizes.pairs; p += WORK_THREADS) {
    if (indices[p] < sizes.experts) {
      atomic_fetch_add_explicit(&counts[indices[p]], 1, memory_order_relaxed);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const uint e = group * WORK_SIMDGROUPS + simdgroup;
  if (e >= sizes.experts) {
    return;
  }
  // 2.
  uint row = 0, tile = 0;
  for (uint i = lane; i < e; i += 32) {
    const uint n = atomic_load_explicit(&counts[i], memory_order_relaxed);
    row += n;
    tile += (n + kRows - 1) / kRows;
  }
  row = simd_sum(row);
  tile = simd_sum(tile);
  const uint end = row + atomic_load_explicit(&counts[e], memory_order_relaxed);

  // 3.
  for (uint first = row + lane * kRows; first < end; first += 32 * kRows) {
    tiles[tile + (first - row) / kRows] = Tile{e, first, min(kRows, end - first)};
  }
  if (e + 1 == sizes.experts && lane == 0) {
    *count = tile + (end - row + kRows - 1) / kRows;
  }

  // 4.
  for (uint first = 0; row < end; first += 32) {
    const uint p = first + lane;
    const bool mine = p < sizes.pairs && indices[p] == e;
    const uint votes = uint(ulong(simd_ballot(mine)));
    if (mine) {
      const uint r = row + popcount(votes & ((1u << lane) - 1));
      tokens[r] = p / sizes.k;
      rows[p] = r;
    }
    row += popcount(votes);
  }
}
