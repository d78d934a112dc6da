// c = a b for any size: four simdgroups make a tile of 32 by 32 of 8x8 matrices, from tiles of a and b that all share.
#include <metal_stdlib>
#include <metal_simdgroup_matrix>

using namespace metal;

constant constexpr uint TILE = 32;
constant constexpr uint DEPTH = 16;
constant constexpr uint THREADS = 128;

kernel void tiled_matmul(
    device const float* a [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device float* c [[buffer(2)]],
    constant uint3& size [[buffer(3)]], // rows and columns of c, depth
    uint2 tile [[threadgroup_position_in_grid]],
    uint index [[thread_index_in_threadgroup]],
    uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float a_tile[TILE * DEPTH];
  threadgroup float b_tile[DEPTH * TILE];
  threadgroup float c_tile[TILE * TILE];
  const uint first_row = tile.y * TILE;
  const uint first_column = tile.x * TILE;
  const uint row = simdgroup / 2 * 16; // of this simdgroup's quarter
  const uint column = simdgroup % 2 * 16;

  simdgroup_float8x8 sum[2][2];
  for (uint i = 0; i < 2; i++) {
    for (uint j = 0; j < 2; j++) {
      sum[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
  }

  for (uint k = 0; k < size.z; k += DEPTH) {
    for (uint i = index; i < TILE * DEPTH; i += THREADS) {
      const uint r = first_row + i / DEPTH;
      const uint d = k + i % DEPTH;
      a_tile[i] = r < size.x && d < size.z ? a[r * size.z + d] : 0.0f;
    }
    for (uint i = index; i < DEPTH * TILE; i += THREADS) {
      const uint d = k + i / TILE;
      const uint n = first_column + i % TILE;
      b_tile[i] = d < size.z && n < size.y ? b[d * size.y + n] : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    for (uint d = 0; d < DEPTH; d += 8) {
      simdgroup_float8x8 left[2];
      simdgroup_float8x8 right[2];
      for (uint i = 0; i < 2; i++) {
        simdgroup_load(left[i], a_tile + (row + 8 * i) * DEPTH + d, DEPTH);
        simdgroup_load(right[i], b_tile + d * TILE + column + 8 * i, TILE);
      }
      for (uint i = 0; i < 2; i++) {
        for (uint j = 0; j < 2; j++) {
          simdgroup_multiply_accumulate(sum[i][j], left[i], right[j], sum[i][j]);
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup); // all have read the tiles, which are written again
  }

  for (uint i = 0; i < 2; i++) {
    for (uint j = 0; j < 2; j++) {
      simdgroup_store(sum[i][j], c_tile + (row + 8 * i) * TILE + column + 8 * j, TILE);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = index; i < TILE * TILE; i += THREADS) {
    const uint r = first_row + i / TILE;
    const uint n = first_column + i % TILE;
    if (r < size.x && n < size.y) {
      c[r * size.y + n] = c_tile[i];
    }
  }
}
