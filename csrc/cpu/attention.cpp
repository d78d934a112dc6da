#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/kernels.h"
#include "cpu/ops.h"
#include "cpu/pool.h"

namespace deltamoe::cpu {

namespace {

constexpr int kRows = 16;         // query rows of a tile: they share one pass over keys and values
constexpr int64_t kSplit = 1024;  // keys of one part where there are few tiles to go round

// out = the parts' outputs, each weighted by exp(its max - the largest), over the sum of their sums.
void combine(const Kernels& kernel, int64_t parts, int rows, int dim, const Softmax* state, float* out) {
  for (int r = 0; r < rows; ++r) {
    float max = -std::numeric_limits<float>::infinity();
    for (int64_t p = 0; p < parts; ++p) {
      const float m = state[p * kRows + r].max;
      max = m > max || std::isnan(m) ? m : max;
    }
    float sum = 0;
    float* total = out + static_cast<int64_t>(r) * dim;
    for (int64_t p = 0; p < parts; ++p) {
      const Softmax& s = state[p * kRows + r];
      const float weight = s.max == max ? 1.0F : std::exp(s.max - max);
      sum += weight * s.sum;
      if (p == 0) {
        kernel.scale(weight, total, dim);
      } else {
        kernel.add_scaled(weight, out + (p * kRows + r) * dim, total, dim);
      }
    }
    kernel.scale(1.0F / sum, total, dim);
  }
}

}  // namespace

// Row r of a tile is query head r % group of token r / group: all rows of a tile share a key head. With few tokens the
// keys are split into parts of fixed length, so that the result does not depend on the number of threads.
void attention(const Attention& op) {
  const Kernels& kernel = kernels();
  Pool& pool = Pool::instance();
  const int group = op.q_heads / op.kv_heads;
  const int64_t rows = op.tokens * group;
  const int64_t tiles = (rows + kRows - 1) / kRows;
  const int64_t parts = tiles <= 4 ? std::max<int64_t>(1, (op.keys + kSplit - 1) / kSplit) : 1;
  const int64_t heads = op.batch * op.kv_heads;
  Scratch scratch;
  auto* out = parts > 1 ? scratch.take<float>(heads * tiles * parts * kRows * op.dim) : nullptr;
  auto* states = parts > 1 ? scratch.take<Softmax>(heads * tiles * parts * kRows) : nullptr;

  const auto load = [&](const void* x, int64_t inner, float* row) { kernel.gather(x, op.dtype, inner, row, op.dim); };
  const auto height = [&](int64_t tile) { return static_cast<int>(std::min<int64_t>(kRows, rows - tile * kRows)); };
  const auto finish = [&](int64_t head, int64_t tile, int64_t n, const Softmax* state, float* result) {
    Scratch local;
    auto* gate = local.take<float>(op.dim);
    combine(kernel, n, height(tile), op.dim, state, result);
    for (int r = 0; r < height(tile); ++r) {
      const int64_t token = (tile * kRows + r) / group;
      const int64_t q_head = head % op.kv_heads * group + (tile * kRows + r) % group;
      const int64_t to = ((head / op.kv_heads * op.tokens + token) * op.q_heads + q_head) * op.dim;
      float* y = result + static_cast<int64_t>(r) * op.dim;
      if (op.gate) {
        const int64_t from = head / op.kv_heads * op.gate_strides[0] + token * op.gate_strides[1];
        load(offset(op.gate, op.dtype, from + q_head * op.dim * op.gate_strides[2]), op.gate_strides[2], gate);
        kernel.gate(gate, y, op.dim);
      }
      kernel.store(y, offset(op.y, op.dtype, to), op.dtype, op.dim);
    }
  };

  pool.run(heads * tiles * parts, [&](int64_t task) {
    const int64_t part = task % parts;
    const int64_t tile = task / parts % tiles;
    const int64_t head = task / parts / tiles;
    const int64_t b = head / op.kv_heads;
    const int64_t kv = head % op.kv_heads;
    Scratch local;
    auto* q = local.take<float>(int64_t{kRows} * op.dim);
    int64_t limits[kRows];
    for (int r = 0; r < height(tile); ++r) {
      const int64_t token = (tile * kRows + r) / group;
      const int64_t q_head = kv * group + (tile * kRows + r) % group;
      const int64_t from = b * op.q_strides[0] + q_head * op.q_strides[1] + token * op.q_strides[2];
      float* row = q + static_cast<int64_t>(r) * op.dim;
      load(offset(op.q, op.dtype, from), op.q_strides[3], row);
      kernel.scale(op.scale, row, op.dim);
      limits[r] = op.causal ? op.keys - op.tokens + token + 1 : op.keys;
    }
    AttentionTile t{};
    t.rows = height(tile);
    t.dim = op.dim;
    t.q = q;
    t.limit = limits;
    t.k = offset(op.k, op.dtype, b * op.k_strides[0] + kv * op.k_strides[1]);
    t.v = offset(op.v, op.dtype, b * op.v_strides[0] + kv * op.v_strides[1]);
    t.dtype = op.dtype;
    t.k_stride = op.k_strides[2];
    t.v_stride = op.v_strides[2];
    t.k_inner = op.k_strides[3];
    t.v_inner = op.v_strides[3];
    t.scratch = local.take<float>(kernel.attention_scratch(kRows, op.dim));
    if (parts > 1) {
      kernel.attention(t, part * kSplit, std::min((part + 1) * kSplit, op.keys), states + task * kRows,
                       out + task * kRows * op.dim);
      return;
    }
    auto* result = local.take<float>(int64_t{kRows} * op.dim);
    Softmax state[kRows];
    kernel.attention(t, 0, op.keys, state, result);
    finish(head, tile, 1, state, result);
  });
  if (parts > 1) {
    pool.run(heads * tiles, [&](int64_t i) {
      finish(i / tiles, i % tiles, parts, states + i * parts * kRows, out + i * parts * kRows * op.dim);
    });
  }
}

}  // namespace deltamoe::cpu
