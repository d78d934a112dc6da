#include "plan/moe_prefill.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace deltamoe::plan {

namespace {

// As in metal/moe/worklist.h and gemm.h.
constexpr uint32_t kWorkSimdgroups = 8;
constexpr uint32_t kGemmSimdgroups = 4;
constexpr uint32_t kLanes = 32;
constexpr uint32_t kMostThreads = 1024;

struct WorkSizes {
  uint32_t pairs, k, experts;
};
struct GemmSizes {
  uint32_t rows, columns, depth;
};
struct CombineSizes {
  uint32_t hidden, experts, k;
};
struct Tile {
  uint32_t expert, row, rows;
};

// Rows of a tile, by GPU family and by rows per expert. Each entry says where it comes from.
struct RowTile {
  uint32_t family;
  uint32_t rows_per_expert;  // up to here
  uint32_t rows;
};

constexpr RowTile kRowTiles[] = {
    // Any family; untested on hardware. Four times an expert's mean: of 512 experts that share rows evenly, fewer than
    // one has to load its weights for a second tile (counted: tests/metal/test_moe_prefill.py). Rows that are not there
    // cost no matrix operation, only registers. No more than 64: a byte of 4-bit codes then serves 256 operations, and
    // an M2 Ultra makes 34 while it loads one (27.2 TFLOPS, 800 GB/s).
    {0, 2, 8},
    {0, 4, 16},
    {0, 8, 32},
    {0, UINT32_MAX, 64},
};

// Those of a device's family, or of any.
std::vector<RowTile> row_tiles(Device device) {
  std::vector<RowTile> tiles;
  for (const uint32_t family : {device.family, 0U}) {
    std::copy_if(std::begin(kRowTiles), std::end(kRowTiles), std::back_inserter(tiles),
                 [&](const RowTile& tile) { return tile.family == family; });
    if (!tiles.empty()) {
      break;
    }
  }
  return tiles;
}

// For rows that the router spreads over experts.
uint32_t routed_tile(uint64_t rows, uint64_t experts, Device device) {
  const std::vector<RowTile> tiles = row_tiles(device);
  return std::find_if(tiles.begin(), tiles.end(),
                      [&](const RowTile& tile) { return rows <= tile.rows_per_expert * experts; })
      ->rows;
}

// For as many rows as there are: the smallest that holds them all, or else the largest.
uint32_t shared_tile(uint32_t rows, Device device) {
  const std::vector<RowTile> tiles = row_tiles(device);
  const auto found = std::find_if(tiles.begin(), tiles.end(), [&](const RowTile& tile) { return rows <= tile.rows; });
  return found != tiles.end() ? found->rows : tiles.back().rows;
}

// Columns of a threadgroup: Shape in metal/moe/gemm.h.
uint32_t columns(uint32_t row_tile, uint32_t matrices) {
  return 8 * (row_tile == 64 ? 2 : 4) / matrices * kGemmSimdgroups;
}

// A stack of experts, or the shared one: its matrices and how its rows are cut.
struct Experts {
  Format gate_up_format, down_format;
  uint32_t gate, up, down;  // inputs
  uint32_t intermediate;
  uint32_t row_tile, tiles;  // rows of a tile; tiles, at most
  bool listed;               // by the work list
};

// What moe_worklist leaves for the products.
struct WorkList {
  Operand tokens, tiles, count;
};

std::string function(const char* kernel, const MoeShape& shape, Format format, const Experts& experts) {
  return std::string(kernel) + "<" + name(shape.type) + ", " + name(format) + ", " + std::to_string(experts.row_tile) +
         ", " + (experts.listed ? "true" : "false") + ">";
}

void append_matrix(std::vector<Operand>& buffers, uint32_t index) {
  buffers.insert(buffers.end(), {input(index), input(index + 1), input(index + 2)});
}

Dispatch gate_up(const MoeShape& shape, const Experts& experts, const WorkList& list, const Operand& h) {
  Dispatch dispatch{
      .source = "moe/gemm",
      .function = function("moe_gemm_gate_up", shape, experts.gate_up_format, experts),
      .grid = {ceil_div(experts.intermediate, columns(experts.row_tile, 2)), experts.tiles, 1},
      .threadgroup = {kLanes * kGemmSimdgroups, 1, 1},
      .buffers = {input(moe_input::kX), list.tokens, list.tiles, list.count},
  };
  append_matrix(dispatch.buffers, experts.gate);
  append_matrix(dispatch.buffers, experts.up);
  dispatch.buffers.insert(dispatch.buffers.end(),
                          {h, bytes(GemmSizes{shape.tokens, experts.intermediate, shape.hidden})});
  return dispatch;
}

Dispatch down(const MoeShape& shape, const Experts& experts, const WorkList& list, const Operand& h, const Operand& z) {
  Dispatch dispatch{
      .source = "moe/gemm",
      .function = function("moe_gemm_down", shape, experts.down_format, experts),
      .grid = {ceil_div(shape.hidden, columns(experts.row_tile, 1)), experts.tiles, 1},
      .threadgroup = {kLanes * kGemmSimdgroups, 1, 1},
      .buffers = {h, list.tiles, list.count},
  };
  append_matrix(dispatch.buffers, experts.down);
  dispatch.buffers.insert(dispatch.buffers.end(),
                          {z, bytes(GemmSizes{shape.tokens, shape.hidden, experts.intermediate})});
  return dispatch;
}

}  // namespace

Plan moe_prefill(const MoeShape& shape, Device device) {
  namespace in = moe_input;
  if (shape.tokens == 0) {
    return {};
  }
  const uint32_t pairs = shape.tokens * shape.k;
  const uint32_t tile = routed_tile(pairs, shape.experts, device);
  const uint32_t tile_of_shared = shared_tile(shape.tokens, device);
  const Experts routed{
      .gate_up_format = shape.gate_up,
      .down_format = shape.down,
      .gate = in::kGate,
      .up = in::kUp,
      .down = in::kDown,
      .intermediate = shape.intermediate,
      .row_tile = tile,
      // as many as if each expert had one row in its last
      .tiles = static_cast<uint32_t>((pairs + uint64_t{std::min(shape.experts, pairs)} * (tile - 1)) / tile),
      .listed = true,
  };
  const Experts shared{
      .gate_up_format = shape.shared_gate_up,
      .down_format = shape.shared_down,
      .gate = in::kSharedGate,
      .up = in::kSharedUp,
      .down = in::kSharedDown,
      .intermediate = shape.shared_intermediate,
      .row_tile = tile_of_shared,
      .tiles = ceil_div(shape.tokens, tile_of_shared),
      .listed = false,
  };

  Plan plan;
  const auto room = [&](size_t rows, size_t row_bytes) {
    plan.temporaries.push_back(rows * row_bytes);
    return temporary(static_cast<uint32_t>(plan.temporaries.size() - 1));
  };
  const WorkList list{
      .tokens = room(pairs, sizeof(uint32_t)),
      .tiles = room(routed.tiles, sizeof(Tile)),
      .count = room(1, sizeof(uint32_t)),
  };
  const Operand row_of_pair = room(pairs, sizeof(uint32_t));
  const Operand h = room(pairs, sizeof(float) * shape.intermediate);
  const Operand z = room(pairs, sizeof(float) * shape.hidden);

  // In an order in which the shared expert waits for no other, and only the last kernel for it.
  plan.dispatches.push_back({
      .source = "moe/worklist",
      .function = "moe_worklist<" + std::to_string(tile) + ">",
      .grid = {ceil_div(shape.experts, kWorkSimdgroups), 1, 1},
      .threadgroup = {kLanes * kWorkSimdgroups, 1, 1},
      .buffers = {input(in::kIndices), list.tokens, row_of_pair, list.tiles, list.count,
                  bytes(WorkSizes{pairs, shape.k, shape.experts})},
  });
  Operand shared_z = z;  // stands for what is not there, and is not looked at
  if (shape.has_shared) {
    const Operand shared_h = room(shape.tokens, sizeof(float) * shape.shared_intermediate);
    shared_z = room(shape.tokens, sizeof(float) * shape.hidden);
    const Operand none = input(in::kIndices);  // likewise
    const WorkList no_list{none, none, none};
    plan.dispatches.push_back(gate_up(shape, shared, no_list, shared_h));
    plan.dispatches.push_back(gate_up(shape, routed, list, h));
    plan.dispatches.push_back(down(shape, shared, no_list, shared_h, shared_z));
  } else {
    plan.dispatches.push_back(gate_up(shape, routed, list, h));
  }
  plan.dispatches.push_back(down(shape, routed, list, h, z));

  Dispatch combine{
      .source = "moe/combine",
      .function = std::string("moe_combine<") + name(shape.type) + ", " + (shape.has_shared ? "true" : "false") + ", " +
                  (shape.has_shared_gate ? name(shape.shared_gate) : "None") + ">",
      .grid = {shape.tokens, 1, 1},
      .threadgroup = {std::min(kLanes * ceil_div(shape.hidden, 4 * kLanes), kMostThreads), 1, 1},
      .buffers = {z, row_of_pair, input(in::kIndices), input(in::kScores), shared_z, input(in::kX)},
  };
  append_matrix(combine.buffers, shape.has_shared_gate ? in::kScale : in::kGate);
  combine.buffers.insert(combine.buffers.end(), {output(0), bytes(CombineSizes{shape.hidden, shape.experts, shape.k})});
  plan.dispatches.push_back(std::move(combine));
  return plan;
}

}  // namespace deltamoe::plan
