// What the plans of a sparse mixture of experts depend on: shapes, formats and the order of the op's inputs.
#pragma once

#include <string>

#include "plan/plan.h"

namespace deltamoe::plan {

// MLX's affine quantisation: codes of `bits` bits, a scale and a bias for each `group` of columns.
struct Format {
  uint32_t group = 64;
  uint32_t bits = 4;
};

// y = sum_j scores_j down_j(silu(gate_j x) * up_j x) + sigmoid(shared_gate x) shared(x), for each of `tokens` rows of
// x. Matrices have x's type as their scales' and biases'. Each width is the number of columns of some matrix, so a
// multiple of that matrix's group.
struct MoeShape {
  uint32_t tokens;
  uint32_t hidden;
  uint32_t intermediate;
  uint32_t shared_intermediate = 0;  // 0: no shared expert
  uint32_t experts;
  uint32_t k;
  Type type;
  Format gate_up, down;                // of the routed experts
  Format shared_gate_up, shared_down;  // of the shared expert
  Format shared_gate;                  // of the row that weighs the shared expert
  bool has_shared = false;
  bool has_shared_gate = false;  // otherwise the shared expert's weight is 1
};

// The op's inputs; a matrix is three of them: codes, scales, biases. The last four are there if the shape has them.
namespace moe_input {
constexpr uint32_t kX = 0;        // [tokens, hidden]
constexpr uint32_t kIndices = 1;  // [tokens, k] uint32
constexpr uint32_t kScores = 2;   // [tokens, k] float32
constexpr uint32_t kGate = 3;     // [experts, intermediate, hidden]
constexpr uint32_t kUp = 6;
constexpr uint32_t kDown = 9;         // [experts, hidden, intermediate]
constexpr uint32_t kSharedGate = 12;  // [shared_intermediate, hidden]: of the shared expert
constexpr uint32_t kSharedUp = 15;
constexpr uint32_t kSharedDown = 18;
constexpr uint32_t kScale = 21;  // [1, hidden]: the op's shared_gate, whose sigmoid weighs the shared expert
}  // namespace moe_input

// The shaders' name of a format: metal/common/quantized.h.
inline std::string name(Format format) {
  return "Affine<" + std::to_string(format.group) + ", " + std::to_string(format.bits) + ">";
}

}  // namespace deltamoe::plan
