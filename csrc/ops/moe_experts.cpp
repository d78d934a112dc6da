#include "plan/moe_experts.h"

#include "cpu/ops.h"
#include "ops/check.h"
#include "ops/ops.h"
#include "ops/read.h"

namespace deltamoe {

namespace {

struct MoeExperts {
  static constexpr const char* name = "moe_experts";
  Format gate, down, shared_up, shared_down, shared_scale;  // gate stands for up as well, shared_up for both
  bool has_shared, has_shared_gate;
  bool operator==(const MoeExperts&) const = default;

  // inputs: x, indices, scores, gate, up, down [, shared gate, up, down [, shared_gate]]; three arrays a matrix
  static constexpr size_t kGate = 3, kUp = 6, kDown = 9, kSharedGate = 12, kSharedUp = 15, kSharedDown = 18,
                          kScale = 21;

  std::vector<Output> outputs(const Arrays& in) const { return {{in[0].shape(), in[0].dtype()}}; }

  Task task(const Arrays& in, Arrays& out) const {
    cpu::MoeExperts op{};
    op.x = in[0].data<void>();
    op.dtype = dtype_of(in[0]);
    op.k = in[1].shape(-1);
    op.tokens = static_cast<int64_t>(in[0].size()) / in[0].shape(-1);
    op.experts = in[kGate].shape(0);
    op.routed = {cpu_quantized_at(in, kGate, gate), cpu_quantized_at(in, kUp, gate), cpu_quantized_at(in, kDown, down)};
    op.y = out[0].data<void>();
    cpu::Mlp shared;
    cpu::Quantized scale;
    if (has_shared) {
      shared = {cpu_quantized_at(in, kSharedGate, shared_up), cpu_quantized_at(in, kSharedUp, shared_up),
                cpu_quantized_at(in, kSharedDown, shared_down)};
    }
    if (has_shared_gate) {
      scale = cpu_quantized_at(in, kScale, shared_scale);
    }
    return [*this, op, shared, scale, indices = Integers(in[1]), scores = Floats(in[2])]() mutable {
      const std::vector<int64_t> chosen = indices.read();
      const std::vector<float> weights = scores.read();
      op.indices = chosen.data();
      op.scores = weights.data();
      op.shared = has_shared ? &shared : nullptr;
      op.shared_gate = has_shared_gate ? &scale : nullptr;
      cpu::moe_experts(op);
    };
  }

  std::optional<plan::Plan> plan(const Arrays& in, plan::Device device) const {
    const mx::Dtype dtype = in[0].dtype();
    for (size_t i = kGate; i < in.size(); i += 3) {
      if (in[i + 1].dtype() != dtype || in[i + 2].dtype() != dtype) {
        return std::nullopt;
      }
    }
    if (in[1].dtype() != mx::uint32 || in[2].dtype() != mx::float32) {
      return std::nullopt;
    }
    const auto format = [](Format f) {
      return plan::Format{.group = static_cast<uint32_t>(f.group), .bits = static_cast<uint32_t>(f.bits)};
    };
    const auto rows = [&](size_t i) { return static_cast<uint32_t>(in[i].shape(-2)); };
    const plan::MoeShape shape{
        .tokens = static_cast<uint32_t>(in[0].size() / in[0].shape(-1)),
        .hidden = rows(kDown),
        .intermediate = rows(kGate),
        .shared_intermediate = has_shared ? rows(kSharedGate) : 0,
        .experts = static_cast<uint32_t>(in[kGate].shape(0)),
        .k = static_cast<uint32_t>(in[1].shape(-1)),
        .type = plan_type(in[0]),
        .gate_up = format(gate),
        .down = format(down),
        .shared_gate_up = format(shared_up),
        .shared_down = format(shared_down),
        .shared_gate = format(shared_scale),
        .has_shared = has_shared,
        .has_shared_gate = has_shared_gate,
    };
    return has_plan(shape) ? std::optional(plan::moe_experts(shape, device)) : std::nullopt;
  }

  Arrays twin(const Arrays& in, mx::Stream s) const { return run(in, s, false); }
  Arrays dense_twin(const Arrays& in, mx::Stream s) const { return run(in, s, true); }

 private:
  // w[indices] x for x [..., k or 1, 1, K] -> [..., k, 1, N].
  static mx::array expert(const mx::array& x, const Quantized& w, const mx::array& indices, Format f, bool dense,
                          mx::Stream s) {
    if (dense) {
      const auto at = [&](const mx::array& stack) { return mx::take(stack, indices, 0, s); };
      return project_dense(x, {at(w.codes), at(w.scales), at(w.biases)}, f, s);
    }
    return mx::gather_qmm(widen(x, s), w.codes, widen(w.scales, s), widen(w.biases, s), std::nullopt, indices, true,
                          f.group, f.bits, "affine", std::nullopt, false, s);
  }

  Arrays run(const Arrays& in, mx::Stream s, bool dense) const {
    const mx::array& x = in[0];
    const mx::array indices = mx::astype(mx::stop_gradient(in[1], s), mx::uint32, s);
    const mx::array rows = mx::expand_dims(x, {-2, -3}, s);
    const mx::array g = expert(rows, quantized_at(in, kGate), indices, gate, dense, s);
    const mx::array u = expert(rows, quantized_at(in, kUp), indices, gate, dense, s);
    mx::array y = expert(mx::multiply(silu(g, s), u, s), quantized_at(in, kDown), indices, down, dense, s);
    y = mx::multiply(mx::squeeze(y, -2, s), mx::expand_dims(mx::astype(in[2], y.dtype(), s), -1, s), s);
    y = mx::sum(y, -2, false, s);
    if (has_shared) {
      const auto linear = [&](const mx::array& v, size_t i, Format f) {
        return dense ? project_dense(v, quantized_at(in, i), f, s) : project(v, quantized_at(in, i), f, s);
      };
      const mx::array h = mx::multiply(silu(linear(x, kSharedGate, shared_up), s), linear(x, kSharedUp, shared_up), s);
      mx::array z = linear(h, kSharedDown, shared_down);
      if (has_shared_gate) {
        z = mx::multiply(mx::sigmoid(linear(x, kScale, shared_scale), s), z, s);
      }
      y = mx::add(y, z, s);
    }
    return {mx::astype(y, x.dtype(), s)};
  }
};

// Checks one expert's (or a stack's) three matrices; `lead` is 1 for a stack. Formats of gate and up, and of down.
std::pair<Format, Format> check_mlp(const std::string& prefix, const Mlp& mlp, size_t lead, int hidden) {
  constexpr const char* op = MoeExperts::name;
  const std::string gate_name = prefix + "gate";
  const std::string up_name = prefix + "up";
  const std::string down_name = prefix + "down";
  const Format gate = check_quantized(op, gate_name.c_str(), mlp.gate, lead, -1, hidden);
  const int middle = mlp.gate.codes.shape(-2);
  const Format up = check_quantized(op, up_name.c_str(), mlp.up, lead, middle, hidden);
  require(gate == up, op, gate_name, " has ", gate.bits, " bits in groups of ", gate.group, " and ", up_name, " has ",
          up.bits, " in groups of ", up.group, ". Expected the same.");
  const Format down = check_quantized(op, down_name.c_str(), mlp.down, lead, hidden, middle);
  if (lead) {
    for (const auto* other : {&mlp.up, &mlp.down}) {
      require(other->codes.shape(0) == mlp.gate.codes.shape(0), op, other == &mlp.up ? up_name : down_name, " has ",
              other->codes.shape(0), " experts and ", gate_name, " has ", mlp.gate.codes.shape(0),
              ". Expected the same.");
    }
  }
  return {gate, down};
}

}  // namespace

mx::array moe_experts(const mx::array& x, const mx::array& indices, const mx::array& scores, const Mlp& routed,
                      const std::optional<Mlp>& shared, const std::optional<Quantized>& shared_gate,
                      mx::StreamOrDevice s) {
  constexpr const char* op = MoeExperts::name;
  check_float(op, "x", x);
  check_integer(op, "indices", indices);
  check_float(op, "scores", scores);
  require(x.ndim() >= 1, op, "x has no axes. Expected [..., H].");
  mx::Shape lead(x.shape().begin(), x.shape().end() - 1);
  mx::Shape pairs = lead;
  pairs.push_back(-1);
  check_shape(op, "indices", indices, pairs);
  check_shape(op, "scores", scores, indices.shape());
  const int hidden = x.shape(-1);

  MoeExperts spec{};
  std::tie(spec.gate, spec.down) = check_mlp("", routed, 1, hidden);
  require(routed.gate.codes.shape(0) >= 1, op, "gate has no experts. Expected at least one.");
  const mx::Stream stream = mx::to_stream(s);
  Arrays inputs{x, indices, scores};
  if (stream.device != mx::Device::cpu) {  // there a kernel reads them in one dtype; on the CPU in any
    inputs[1] = mx::astype(indices, mx::uint32, stream);
    inputs[2] = mx::astype(scores, mx::float32, stream);
  }
  for (const Quantized* w : {&routed.gate, &routed.up, &routed.down}) {
    append(inputs, *w);
  }
  spec.has_shared = shared.has_value();
  spec.has_shared_gate = shared_gate.has_value();
  require(spec.has_shared || !spec.has_shared_gate, op,
          "shared_gate is given without shared. Expected both or only shared.");
  if (shared) {
    std::tie(spec.shared_up, spec.shared_down) = check_mlp("shared.", *shared, 0, hidden);
    for (const Quantized* w : {&shared->gate, &shared->up, &shared->down}) {
      append(inputs, *w);
    }
  }
  if (shared_gate) {
    spec.shared_scale = check_quantized(op, "shared_gate", *shared_gate, 0, 1, hidden);
    append(inputs, *shared_gate);
  }
  return make(spec, inputs, stream)[0];
}

}  // namespace deltamoe
