#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/ops.h"
#include "cpu/tiles.h"

namespace deltamoe::cpu {

namespace {

// One activation row of one expert: y[token] += weight * mlp(x[token]).
struct Row {
  int64_t token;
  float weight;
};

// An expert with the rows that go to it, in tiles first_tile, first_tile + 1, ...
struct Group {
  Mlp mlp;
  std::vector<Row> rows;
  int64_t first_tile, tiles;
};

Packing gate_packing(const Group& g, Dtype dtype) { return {g.mlp.gate, terms_of(dtype)}; }
// What lies between gate, up and down is not rounded to bf16, which would show in the result, but to 16 bits or not at
// all.
Packing down_packing(const Group& g, Dtype dtype) { return {g.mlp.down, std::max(2, terms_of(dtype))}; }

// The same tiles serve gate, up and down.
Tiling tiling(const Group& g, Dtype dtype) { return {gate_packing(g, dtype), static_cast<int64_t>(g.rows.size())}; }

Mlp at(const Mlp& stack, int64_t expert) { return {stack.gate.at(expert), stack.up.at(expert), stack.down.at(expert)}; }

void check(const MoeExperts& op) {
  for (int64_t i = 0; i < op.tokens * op.k; ++i) {
    if (op.indices[i] < 0 || op.indices[i] >= op.experts) {
      throw std::out_of_range("[moe_experts] indices holds " + std::to_string(op.indices[i]) + " for token " +
                              std::to_string(i / op.k) + ". Expected 0 to " + std::to_string(op.experts - 1) +
                              ": there are " + std::to_string(op.experts) + " experts.");
    }
  }
}

// sigmoid(x . shared_gate) of each token.
std::vector<float> shared_weights(const MoeExperts& op, int64_t t0, int64_t tokens) {
  std::vector<float> weights(tokens, 1.0F);
  if (!op.shared_gate) {
    return weights;
  }
  const Kernels& kernel = kernels();
  const Packing packing(*op.shared_gate, terms_of(op.dtype));
  const Tiling tiling(packing, tokens);
  Pool::instance().run(tiling.count, [&](int64_t i) {
    Scratch scratch;
    void* tile = scratch.take<char>(kernel.tile_bytes(packing, kMaxTile));
    const void* rows[kMaxTile];
    for (int r = 0; r < tiling.height(i); ++r) {
      rows[r] = offset(op.x, op.dtype, (t0 + tiling.first(i) + r) * packing.cols);
    }
    kernel.pack(packing, tiling.height(i), rows, op.dtype, tile);
    kernel.multiply(*op.shared_gate, packing, 0, 1, tiling.height(i), tile, &weights[tiling.first(i)], 1);
  });
  for (float& w : weights) {
    w = 1.0F / (1.0F + std::exp(-w));
  }
  return weights;
}

// The experts that have rows, by index, each with its rows by token; the shared expert last.
std::vector<Group> group(const MoeExperts& op, int64_t t0, int64_t tokens) {
  std::vector<int64_t> count(op.experts, 0);
  for (int64_t i = t0 * op.k; i < (t0 + tokens) * op.k; ++i) {
    ++count[op.indices[i]];
  }
  std::vector<Group> groups;
  std::vector<int64_t> place(op.experts);
  for (int64_t e = 0; e < op.experts; ++e) {
    if (count[e]) {
      place[e] = static_cast<int64_t>(groups.size());
      groups.push_back({at(op.routed, e), {}, 0, 0});
      groups.back().rows.reserve(count[e]);
    }
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int j = 0; j < op.k; ++j) {
      const int64_t i = (t0 + t) * op.k + j;
      groups[place[op.indices[i]]].rows.push_back({t, op.scores[i]});
    }
  }
  if (op.shared) {
    const std::vector<float> weights = shared_weights(op, t0, tokens);
    groups.push_back({*op.shared, {}, 0, 0});
    for (int64_t t = 0; t < tokens; ++t) {
      groups.back().rows.push_back({t, weights[t]});
    }
  }
  int64_t tiles = 0;
  for (Group& g : groups) {
    g.first_tile = tiles;
    g.tiles = tiling(g, op.dtype).count;
    tiles += g.tiles;
  }
  return groups;
}

// A tile of one group: rows first .. first + height.
struct Tile {
  const Group* group;
  int64_t first;
  int height;
  char* x = nullptr;   // packed
  float* h = nullptr;  // [height][I]
  char* h_packed = nullptr;
};

// Tokens t0 .. t0 + tokens, all at once:
// 1. gather and pack x for every tile
// 2. each task: some rows of one expert's gate and up against all its tiles, SwiGLU -> h
// 3. pack h
// 4. each task: some rows of every expert's down, added up per token in the order of experts
void run(const MoeExperts& op, int64_t t0, int64_t tokens) {
  const Kernels& kernel = kernels();
  Pool& pool = Pool::instance();
  const int64_t hidden = op.routed.gate.cols;
  const std::vector<Group> groups = group(op, t0, tokens);
  Scratch scratch;

  std::vector<Tile> tiles;
  for (const Group& g : groups) {
    const Tiling cut = tiling(g, op.dtype);
    for (int64_t i = 0; i < cut.count; ++i) {
      Tile tile{&g, cut.first(i), cut.height(i)};
      tile.x = scratch.take<char>(kernel.tile_bytes(gate_packing(g, op.dtype), tile.height));
      tile.h = scratch.take<float>(tile.height * g.mlp.gate.rows);
      tile.h_packed = scratch.take<char>(kernel.tile_bytes(down_packing(g, op.dtype), tile.height));
      tiles.push_back(tile);
    }
  }

  // 1. A lone token looks the same to every expert that packs alike.
  const auto packed_like_first = [&](const Tile& tile) {
    return tokens == 1 && &tile != tiles.data() && tile.height == tiles[0].height &&
           gate_packing(*tile.group, op.dtype) == gate_packing(*tiles[0].group, op.dtype);
  };
  pool.run(static_cast<int64_t>(tiles.size()), [&](int64_t i) {
    Tile& tile = tiles[i];
    if (packed_like_first(tile)) {
      tile.x = tiles[0].x;
      return;
    }
    const void* rows[kMaxTile];
    for (int r = 0; r < tile.height; ++r) {
      rows[r] = offset(op.x, op.dtype, (t0 + tile.group->rows[tile.first + r].token) * hidden);
    }
    kernel.pack(gate_packing(*tile.group, op.dtype), tile.height, rows, op.dtype, tile.x);
  });

  // 2.
  int64_t middle = 0;
  for (const Group& g : groups) {
    middle += g.mlp.gate.rows;
  }
  constexpr int64_t kMost = 128;
  const int64_t piece = rows_per_task(middle, 16, kMost);  // rows of gate and of up in a task
  struct Task {
    const Group* group;
    int64_t n0, n1;
  };
  std::vector<Task> tasks;
  for (const Group& g : groups) {
    for (int64_t n = 0; n < g.mlp.gate.rows; n += piece) {
      tasks.push_back({&g, n, std::min(n + piece, g.mlp.gate.rows)});
    }
  }
  pool.run(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    const auto [g, n0, n1] = tasks[i];
    const Packing packing = gate_packing(*g, op.dtype);
    float gate[kMaxTile * kMost];
    float up[kMaxTile * kMost];
    for (int64_t t = g->first_tile; t < g->first_tile + g->tiles; ++t) {
      const Tile& tile = tiles[t];
      kernel.multiply(g->mlp.gate, packing, n0, n1, tile.height, tile.x, gate, piece);
      kernel.multiply(g->mlp.up, packing, n0, n1, tile.height, tile.x, up, piece);
      for (int r = 0; r < tile.height; ++r) {
        kernel.swiglu(gate + r * piece, up + r * piece, tile.h + r * g->mlp.gate.rows + n0, n1 - n0);
      }
    }
  });

  // 3.
  pool.run(static_cast<int64_t>(tiles.size()), [&](int64_t i) {
    const Tile& tile = tiles[i];
    const void* rows[kMaxTile];
    for (int r = 0; r < tile.height; ++r) {
      rows[r] = tile.h + r * tile.group->mlp.down.cols;
    }
    kernel.pack(down_packing(*tile.group, op.dtype), tile.height, rows, Dtype::f32, tile.h_packed);
  });

  // 4.
  const int64_t chunk = rows_per_task(hidden, 16, 128);
  pool.run((hidden + chunk - 1) / chunk, [&](int64_t task) {
    const int64_t n0 = task * chunk;
    const int64_t n1 = std::min(n0 + chunk, hidden);
    Scratch local;
    auto* part = local.take<float>(kMaxTile * chunk);
    auto* total = local.take<float>(tokens * chunk);
    std::fill(total, total + tokens * chunk, 0.0F);
    for (const Tile& tile : tiles) {
      const Quantized& down = tile.group->mlp.down;
      kernel.multiply(down, down_packing(*tile.group, op.dtype), n0, n1, tile.height, tile.h_packed, part, chunk);
      for (int r = 0; r < tile.height; ++r) {
        const Row& row = tile.group->rows[tile.first + r];
        kernel.add_scaled(row.weight, part + r * chunk, total + row.token * chunk, n1 - n0);
      }
    }
    for (int64_t t = 0; t < tokens; ++t) {
      kernel.store(total + t * chunk, offset(op.y, op.dtype, (t0 + t) * hidden + n0), op.dtype, n1 - n0);
    }
  });
}

}  // namespace

void moe_experts(const MoeExperts& op) {
  constexpr int64_t kTokens = 1024;  // at once: bounds the memory for packed rows
  check(op);
  for (int64_t t = 0; t < op.tokens; t += kTokens) {
    run(op, t, std::min(kTokens, op.tokens - t));
  }
}

}  // namespace deltamoe::cpu
