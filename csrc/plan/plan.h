// What a Metal device is asked to run: pure data, made from shapes, dtypes and device traits. The encoder (csrc/metal)
// hands it to Metal, the simulator (python/deltamoe_sim/plan.py) runs the same plan on any machine.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

namespace deltamoe::plan {

using Dim = std::array<uint32_t, 3>;

// A number of whole units of `size` that hold `n`.
constexpr uint32_t ceil_div(uint64_t n, uint64_t size) { return static_cast<uint32_t>((n + size - 1) / size); }

// What is bound to a buffer index.
struct Operand {
  enum class Kind { input, output, temporary, bytes, none };
  Kind kind;
  uint32_t index = 0;          // of the op's inputs, of its outputs, or of the plan's temporaries
  std::vector<uint8_t> bytes;  // copied into the command: a scalar or a small struct
};

inline Operand input(uint32_t index) { return {Operand::Kind::input, index, {}}; }
inline Operand output(uint32_t index) { return {Operand::Kind::output, index, {}}; }
inline Operand temporary(uint32_t index) { return {Operand::Kind::temporary, index, {}}; }
// Of an array that is not there: the kernel does not look at it.
inline Operand none() { return {Operand::Kind::none, 0, {}}; }
template <class T>
Operand bytes(const T& value) {
  Operand operand{Operand::Kind::bytes, 0, std::vector<uint8_t>(sizeof value)};
  memcpy(operand.bytes.data(), &value, sizeof value);
  return operand;
}

// One kernel launch.
struct Dispatch {
  std::string source;            // a header of metal/, without its ending: "moe/decode"
  std::string function;          // the instantiated template: "moe_gate_up<bfloat, 64, 4>"
  Dim grid{};                    // threadgroups
  Dim threadgroup{};             // threads
  std::vector<Operand> buffers;  // by [[buffer(index)]]
};

// The host name of an instantiation, an identifier: "moe_gate_up_bfloat_64_4".
inline std::string kernel_name(const std::string& function) {
  std::string name;
  for (const char c : function) {
    const bool is_word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
    if (is_word) {
      name += c;
    } else if (!name.empty() && name.back() != '_') {
      name += '_';
    }
  }
  while (!name.empty() && name.back() == '_') {
    name.pop_back();
  }
  return name;
}

// Dispatches in order, each seeing what those before it have written.
struct Plan {
  std::vector<size_t> temporaries;  // bytes
  std::vector<Dispatch> dispatches;
};

enum class Type { float32, float16, bfloat16 };

// Metal's name of a type.
inline const char* name(Type type) {
  return type == Type::float32 ? "float" : type == Type::float16 ? "half" : "bfloat";
}

// What the choice of a kernel depends on.
struct Device {
  uint32_t family = 0;  // 7 M1, 8 M2, 9 M3 and M4, 10 M5; 0: not known, the simulator among them
  // For tests and tools: what the gated delta rule takes on whatever family, chunks of so many tokens, or none with 0.
  std::optional<uint32_t> chunk = std::nullopt;
};

}  // namespace deltamoe::plan
