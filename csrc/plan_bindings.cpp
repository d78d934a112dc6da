#include "plan_bindings.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>
#include <optional>

#include "metal/sources.h"
#include "ops/op.h"
#include "plan/gated_delta.h"
#include "plan/moe_experts.h"
#include "plan/moe_router.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace deltamoe {

namespace {

nb::object operand(const plan::Operand& operand) {
  switch (operand.kind) {
    case plan::Operand::Kind::input:
      return nb::make_tuple("input", operand.index);
    case plan::Operand::Kind::output:
      return nb::make_tuple("output", operand.index);
    case plan::Operand::Kind::temporary:
      return nb::make_tuple("temporary", operand.index);
    case plan::Operand::Kind::bytes:
      return nb::bytes(operand.bytes.data(), operand.bytes.size());
    case plan::Operand::Kind::none:
      break;
  }
  return nb::none();
}

plan::Type type(const std::string& dtype) {
  static const std::map<std::string, plan::Type> types = {
      {"float32", plan::Type::float32}, {"float16", plan::Type::float16}, {"bfloat16", plan::Type::bfloat16}};
  return types.at(dtype);
}

using GroupBits = std::pair<uint32_t, uint32_t>;

plan::Format format(const GroupBits& f) { return {.group = f.first, .bits = f.second}; }

nb::tuple dim(const plan::Dim& d) { return nb::make_tuple(d[0], d[1], d[2]); }

// A plan as lists, dicts and tuples.
nb::dict as_dict(const plan::Plan& plan) {
  nb::list temporaries;
  for (const size_t size : plan.temporaries) {
    temporaries.append(size);
  }
  nb::list dispatches;
  for (const plan::Dispatch& dispatch : plan.dispatches) {
    nb::list buffers;
    for (const plan::Operand& each : dispatch.buffers) {
      buffers.append(operand(each));
    }
    nb::dict d;
    d["source"] = dispatch.source;
    d["function"] = dispatch.function;
    d["kernel"] = plan::kernel_name(dispatch.function);
    d["grid"] = dim(dispatch.grid);
    d["threadgroup"] = dim(dispatch.threadgroup);
    d["buffers"] = buffers;
    dispatches.append(d);
  }
  nb::dict d;
  d["temporaries"] = temporaries;
  d["dispatches"] = dispatches;
  return d;
}

}  // namespace

void bind_plans(nb::module_& m) {
  m.def(
      "metal_plan",
      [](const mx::array& result, uint32_t family, std::optional<uint32_t> chunk) {
        const auto* op = result.has_primitive() ? dynamic_cast<const Planned*>(&result.primitive()) : nullptr;
        if (!op) {
          throw std::invalid_argument("[metal_plan] the array is no unevaluated result of an op of deltamoe.");
        }
        const std::optional<plan::Plan> plan = op->plan(result.inputs(), {family, chunk});
        return std::tuple(plan ? std::optional(as_dict(*plan)) : std::nullopt, result.inputs(), result.outputs());
      },
      "result"_a, "family"_a = 0, "chunk"_a = nb::none());
  m.def("metal_sources", [] {
    nb::list names;
    for (const auto& [name, source] : metal::kSources) {
      names.append(name);
    }
    return names;
  });
  m.def(
      "plan_moe_router",
      [](uint32_t tokens, uint32_t experts, uint32_t k, const std::string& dtype, bool normalize,
         uint32_t family) -> std::optional<nb::dict> {
        const plan::RouterShape shape{tokens, experts, k, type(dtype), normalize};
        return has_plan(shape) ? std::optional(as_dict(moe_router(shape, {family}))) : std::nullopt;
      },
      nb::kw_only(), "tokens"_a, "experts"_a, "k"_a, "dtype"_a, "normalize"_a = true, "family"_a = 0);
  m.def(
      "plan_moe_experts",
      [](uint32_t tokens, uint32_t hidden, uint32_t intermediate, uint32_t experts, uint32_t k,
         const std::string& dtype, GroupBits gate_up, GroupBits down, uint32_t shared_intermediate,
         std::optional<std::pair<GroupBits, GroupBits>> shared, std::optional<GroupBits> shared_gate,
         uint32_t family) -> std::optional<nb::dict> {
        const plan::MoeShape shape{
            .tokens = tokens,
            .hidden = hidden,
            .intermediate = intermediate,
            .shared_intermediate = shared_intermediate,
            .experts = experts,
            .k = k,
            .type = type(dtype),
            .gate_up = format(gate_up),
            .down = format(down),
            .shared_gate_up = shared ? format(shared->first) : plan::Format{},
            .shared_down = shared ? format(shared->second) : plan::Format{},
            .shared_gate = shared_gate ? format(*shared_gate) : plan::Format{},
            .has_shared = shared.has_value(),
            .has_shared_gate = shared_gate.has_value(),
        };
        return has_plan(shape) ? std::optional(as_dict(moe_experts(shape, {family}))) : std::nullopt;
      },
      nb::kw_only(), "tokens"_a, "hidden"_a, "intermediate"_a, "experts"_a, "k"_a, "dtype"_a, "gate_up"_a, "down"_a,
      "shared_intermediate"_a = 0, "shared"_a = nb::none(), "shared_gate"_a = nb::none(), "family"_a = 0);
  m.def(
      "plan_gated_delta",
      [](uint32_t batch, uint32_t tokens, uint32_t k_heads, uint32_t v_heads, uint32_t dk, uint32_t dv,
         const std::string& dtype, const std::optional<std::string>& gates, const std::optional<std::string>& A_log,
         const std::optional<std::string>& dt_bias, const std::optional<std::string>& conv,
         const std::optional<std::string>& norm, uint32_t taps, bool state, bool conv_state, bool mask, bool lengths,
         bool allow_neg_eigval, bool channel_gate, uint32_t snapshots, float norm_eps, uint32_t family,
         std::optional<uint32_t> chunk) -> std::optional<nb::dict> {
        const plan::DeltaShape shape{
            .batch = batch,
            .tokens = tokens,
            .k_heads = k_heads,
            .v_heads = v_heads,
            .dk = dk,
            .dv = dv,
            .type = type(dtype),
            .gates = type(gates.value_or(dtype)),
            .A_log = type(A_log.value_or(dtype)),
            .dt_bias = type(dt_bias.value_or(dtype)),
            .conv = type(conv.value_or(dtype)),
            .norm = type(norm.value_or(dtype)),
            .taps = taps,
            .state = state,
            .conv_state = conv_state,
            .mask = mask,
            .lengths = lengths,
            .allow_neg_eigval = allow_neg_eigval,
            .channel_gate = channel_gate,
            .snapshots = std::max(snapshots, 1U),
            .norm_eps = norm_eps,
        };
        return has_plan(shape) ? std::optional(as_dict(gated_delta(shape, {family, chunk}))) : std::nullopt;
      },
      nb::kw_only(), "batch"_a, "tokens"_a, "k_heads"_a, "v_heads"_a, "dk"_a, "dv"_a, "dtype"_a, "gates"_a = nb::none(),
      "A_log"_a = nb::none(), "dt_bias"_a = nb::none(), "conv"_a = nb::none(), "norm"_a = nb::none(), "taps"_a = 0,
      "state"_a = false, "conv_state"_a = false, "mask"_a = false, "lengths"_a = false, "allow_neg_eigval"_a = false,
      "channel_gate"_a = false, "snapshots"_a = 0, "norm_eps"_a = 1e-6F, "family"_a = 0, "chunk"_a = nb::none());
  m.def("metal_source", &metal::library_text, "source"_a, "functions"_a);
}

}  // namespace deltamoe
