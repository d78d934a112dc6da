#include "plan/moe_decode.h"

#include <algorithm>

namespace deltamoe::plan {

namespace {

constexpr uint32_t kLanes = 32;

// How the kernels are cut, by GPU family. Each row says where it comes from.
struct Tuning {
  uint32_t family;
  uint32_t rows;             // of gate, and of up, that a simdgroup of moe_gate_up has
  uint32_t simdgroups;       // of its threadgroup
  uint32_t down_rows;        // that a threadgroup of moe_experts_down has
  uint32_t down_simdgroups;  // at most, of that threadgroup
};

constexpr Tuning kTunings[] = {
    // Any family; untested on hardware. A simdgroup streams four rows, in threadgroups of two simdgroups, as in MLX's
    // affine_gather_qmv_fast: as many threadgroups as its two gathers have (halving them lost 3%: 0rvar/xwen,
    // docs/decisions). Eight rows of down, because h is float: with four rows down's loads are 24.5 MB at the 35B
    // model's widths, where MLX's are 22.4 and these 15.9 (counted). Up to eight simdgroups, since a kernel of many
    // registers may not have 1,024 threads.
    {0, 2, 2, 8, 8},
};

const Tuning& tuning(Device device) {
  const auto* found = std::find_if(std::begin(kTunings), std::end(kTunings),
                                   [&](const Tuning& t) { return t.family == device.family; });
  return found != std::end(kTunings) ? *found : kTunings[0];
}

// Words of codes that a lane takes at once: as many as leave no lane idle in the last turn.
uint32_t words(uint32_t columns, Format format) {
  for (uint32_t n : {4U, 2U, 1U}) {
    if (columns % (kLanes * n * 32 / format.bits) == 0) {
      return n;
    }
  }
  return 1;
}

struct Sizes {  // MoeSizes of metal/moe/decode.h
  uint32_t hidden, intermediate, shared_intermediate, experts, k;
};

std::string name_if(bool present, Format format) { return present ? name(format) : "None"; }

std::string call(const char* kernel, std::initializer_list<std::string> arguments) {
  std::string text = std::string(kernel) + "<";
  for (const std::string& argument : arguments) {
    text += (text.back() == '<' ? "" : ", ") + argument;
  }
  return text + ">";
}

// The three arrays of the matrix at `index`; a kernel that was made without that matrix does not look at what it is
// given in its place.
void append_matrix(std::vector<Operand>& buffers, bool present, uint32_t index, uint32_t instead) {
  for (uint32_t i = 0; i < 3; ++i) {
    buffers.push_back(input((present ? index : instead) + i));
  }
}

}  // namespace

Plan moe_decode(const MoeShape& shape, Device device) {
  namespace in = moe_input;
  if (shape.tokens == 0) {
    return {};
  }
  const Tuning& tuned = tuning(device);
  const uint32_t shared_intermediate = shape.has_shared ? shape.shared_intermediate : 0;
  const uint32_t width = shape.k * shape.intermediate + shared_intermediate;
  const Operand sizes = bytes(Sizes{shape.hidden, shape.intermediate, shared_intermediate, shape.experts, shape.k});
  const std::string shared_down = name_if(shape.has_shared, shape.shared_down);
  const Operand h = temporary(0);
  const Operand shared_weight = temporary(1);

  Dispatch gate_up{
      .source = "moe/decode",
      .function =
          call("moe_gate_up",
               {name(shape.type), name(shape.gate_up), name_if(shape.has_shared, shape.shared_gate_up),
                name_if(shape.has_shared_gate, shape.shared_gate), std::to_string(words(shape.hidden, shape.gate_up)),
                std::to_string(tuned.rows), std::to_string(tuned.simdgroups)}),
      .grid = {width / (tuned.rows * tuned.simdgroups) + (shape.has_shared ? 1 : 0), shape.tokens, 1},
      .threadgroup = {kLanes, tuned.simdgroups, 1},
      .buffers = {input(in::kX), input(in::kIndices)},
  };
  append_matrix(gate_up.buffers, true, in::kGate, in::kGate);
  append_matrix(gate_up.buffers, true, in::kUp, in::kUp);
  append_matrix(gate_up.buffers, shape.has_shared, in::kSharedGate, in::kGate);
  append_matrix(gate_up.buffers, shape.has_shared, in::kSharedUp, in::kGate);
  append_matrix(gate_up.buffers, shape.has_shared_gate, in::kScale, in::kGate);
  gate_up.buffers.insert(gate_up.buffers.end(), {h, shared_weight, sizes});

  const uint32_t experts = shape.k + (shape.has_shared ? 1 : 0);
  const uint32_t turns = ceil_div(experts, tuned.down_simdgroups);
  Dispatch down{
      .source = "moe/decode",
      .function = call("moe_experts_down",
                       {name(shape.type), name(shape.down), shared_down,
                        std::to_string(words(shape.intermediate, shape.down)), std::to_string(tuned.down_rows)}),
      .grid = {shape.hidden / tuned.down_rows, shape.tokens, 1},
      .threadgroup = {kLanes, ceil_div(experts, turns), 1},
      .buffers = {h, shared_weight, input(in::kIndices), input(in::kScores)},
  };
  append_matrix(down.buffers, true, in::kDown, in::kDown);
  append_matrix(down.buffers, shape.has_shared, in::kSharedDown, in::kDown);
  down.buffers.insert(down.buffers.end(), {output(0), sizes});

  return {
      .temporaries = {sizeof(float) * shape.tokens * width, sizeof(float) * shape.tokens},
      .dispatches = {gate_up, down},
  };
}

}  // namespace deltamoe::plan
