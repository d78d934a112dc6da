#include "plan/gated_delta.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "cpu/ops.h"
#include "ops/check.h"
#include "ops/ops.h"
#include "ops/read.h"

namespace deltamoe {

namespace {

// ---- the rule itself ------------------------------------------------------------------------------------------------

struct Recurrence {
  mx::array y, state;
};

// The rule in plain MLX ops, token by token, all in float32. q, k [B, T, Hk, Dk], v [B, T, Hv, Dv]; y is float32.
// With snapshots, `state` is those after the last tokens: [B, snapshots, Hv, Dv, Dk].
Recurrence recurrence(mx::array q, mx::array k, mx::array v, const mx::array& a, const mx::array& b,
                      const mx::array& A_log, const mx::array& dt_bias, mx::array state, const Maybe& mask,
                      bool allow_neg_eigval, int snapshots, mx::Stream s) {
  const auto f32 = [&](const mx::array& x) { return mx::astype(x, mx::float32, s); };
  const int B = v.shape(0), T = v.shape(1), Hv = v.shape(2), Dv = v.shape(3), Hk = k.shape(2);
  const bool channels = a.ndim() == 4;
  mx::array rate = mx::negative(mx::exp(f32(A_log), s), s);
  rate = channels ? mx::reshape(rate, {Hv, 1}, s) : mx::reshape(rate, {Hv}, s);
  const mx::array softplus = mx::logaddexp(mx::add(f32(a), f32(dt_bias), s), mx::array(0.0F), s);
  const mx::array g = mx::exp(mx::multiply(rate, softplus, s), s);
  mx::array beta = mx::sigmoid(f32(b), s);
  if (allow_neg_eigval) {
    beta = mx::multiply(beta, mx::array(2.0F), s);
  }
  q = mx::repeat(f32(q), Hv / Hk, 2, s);
  k = mx::repeat(f32(k), Hv / Hk, 2, s);
  v = f32(v);
  Arrays ys, kept;
  for (int t = 0; t < T; ++t) {
    const auto at = [&](const mx::array& x) { return mx::take(x, t, 1, s); };
    const mx::array kt = mx::expand_dims(at(k), 2, s);  // [B, Hv, 1, Dk]
    const mx::array qt = mx::expand_dims(at(q), 2, s);
    const mx::array gt = channels ? mx::expand_dims(at(g), 2, s) : mx::expand_dims(at(g), {2, 3}, s);
    const mx::array before = mx::multiply(state, gt, s);
    const mx::array recalled = mx::sum(mx::multiply(before, kt, s), -1, false, s);
    const mx::array delta = mx::multiply(mx::subtract(at(v), recalled, s), mx::expand_dims(at(beta), 2, s), s);
    mx::array after = mx::add(before, mx::multiply(mx::expand_dims(delta, 3, s), kt, s), s);
    mx::array y = mx::sum(mx::multiply(after, qt, s), -1, false, s);
    if (mask) {
      const mx::array on = mx::reshape(at(*mask), {B, 1, 1}, s);
      after = mx::where(mx::expand_dims(on, 3, s), after, state, s);
      y = mx::where(on, y, mx::array(0.0F), s);
    }
    state = after;
    ys.push_back(y);
    if (t >= T - snapshots) {
      kept.push_back(state);
    }
  }
  return {T ? mx::stack(ys, 1, s) : mx::zeros({B, T, Hv, Dv}, mx::float32, s),
          snapshots ? mx::stack(kept, 1, s) : state};
}

// Shapes both ops share, read off checked inputs.
struct Heads {
  int B, T, Hk, Hv, Dk, Dv;
};

void check_heads(const char* op, const Heads& h) {
  require(h.Hk > 0 && h.Hv > 0 && h.Hv % h.Hk == 0, op, "there are ", h.Hv, " value heads for ", h.Hk,
          " key heads. Expected a multiple.");
  for (const auto& [what, d] : {std::pair{"key", h.Dk}, std::pair{"value", h.Dv}}) {
    require(d >= 32 && d <= 256 && d % 32 == 0, op, "the ", what, " head dimension is ", d,
            ". Expected a multiple of 32, at most 256.");
  }
}

// By `outputs`: an op compiled as shapeless may be given fewer tokens.
void check_snapshots(const char* op, const Heads& h, int snapshots) {
  require(snapshots >= 0 && snapshots <= h.T, op, "snapshots is ", snapshots, " and there are ", h.T,
          " tokens. Expected 0 to as many: a snapshot is the state after a token.");
}

mx::Shape state_shape(const Heads& h, int snapshots) {
  return snapshots ? mx::Shape{h.B, snapshots, h.Hv, h.Dv, h.Dk} : mx::Shape{h.B, h.Hv, h.Dv, h.Dk};
}

// Inputs that may be left out, in this order behind the others. Nothing is filled in when an op is called: what would
// be, has shapes, and a shapeless compilation must not remember them.
struct Optionals {
  bool conv_state = false, state = false, mask = false, lengths = false;
  bool operator==(const Optionals&) const = default;

  static const mx::array* find(const Arrays& in, size_t first, const std::vector<bool>& before, bool present) {
    return present ? &in[first + std::count(before.begin(), before.end(), true)] : nullptr;
  }
  const mx::array* conv_state_in(const Arrays& in, size_t first) const { return find(in, first, {}, conv_state); }
  const mx::array* state_in(const Arrays& in, size_t first) const { return find(in, first, {conv_state}, state); }
  const mx::array* mask_in(const Arrays& in, size_t first) const { return find(in, first, {conv_state, state}, mask); }
  const mx::array* lengths_in(const Arrays& in, size_t first) const {
    return find(in, first, {conv_state, state, mask}, lengths);
  }
};

// Checks and appends the gates' companions and all optionals but conv_state.
void check_rest(const char* op, const Heads& h, const mx::array& a, const mx::array& b, const mx::array& A_log,
                const mx::array& dt_bias, bool channels, const Maybe& state, const Maybe& mask, const Maybe& lengths,
                int snapshots, mx::Stream stream, Arrays& inputs, Optionals& optionals) {
  check_float(op, "a", a);
  check_same_dtype(op, "b", b, "a", a);
  check_float(op, "A_log", A_log);
  check_float(op, "dt_bias", dt_bias);
  check_shape(op, "a", a, channels ? mx::Shape{h.B, h.T, h.Hv, h.Dk} : mx::Shape{h.B, h.T, h.Hv});
  check_shape(op, "b", b, {h.B, h.T, h.Hv});
  check_shape(op, "A_log", A_log, A_log.ndim() == 2 ? mx::Shape{h.Hv, 1} : mx::Shape{h.Hv});
  check_shape(op, "dt_bias", dt_bias, channels ? mx::Shape{h.Hv, h.Dk} : mx::Shape{h.Hv});
  const auto append = [&](const Maybe& value, bool& flag) {
    flag = value.has_value();
    if (value) {
      inputs.push_back(*value);
    }
  };
  if (state) {
    require(state->dtype() == mx::float32, op, "state has dtype ", state->dtype(),
            ". Expected float32: a state in less precision loses what it remembers.");
    check_shape(op, "state", *state, {h.B, h.Hv, h.Dv, h.Dk});
  }
  append(state, optionals.state);
  if (mask) {
    require(mask->dtype() == mx::bool_, op, "mask has dtype ", mask->dtype(),
            ". Expected bool, True where a token counts.");
    check_shape(op, "mask", *mask, {h.B, h.T});
  }
  append(mask, optionals.mask);
  if (lengths) {
    check_integer(op, "lengths", *lengths);
    check_shape(op, "lengths", *lengths, {h.B});
    require(snapshots == 0, op, "lengths are given with snapshots. Expected one or the other: snapshots are of the ",
            "same last tokens in every row. Pad on the left, with a mask.");
    const bool on_cpu = stream.device == mx::Device::cpu;  // elsewhere a kernel reads them in one dtype
    append(on_cpu ? *lengths : mx::astype(*lengths, mx::int32, stream), optionals.lengths);
  }
}

// What both ops tell a plan alike.
plan::DeltaShape plan_shape(const Heads& h, const mx::array& x, const mx::array& a, const mx::array& A_log,
                            const mx::array& dt_bias, const Optionals& optionals, int snapshots) {
  const auto number = [](int n) { return static_cast<uint32_t>(n); };
  return {
      .batch = number(h.B),
      .tokens = number(h.T),
      .k_heads = number(h.Hk),
      .v_heads = number(h.Hv),
      .dk = number(h.Dk),
      .dv = number(h.Dv),
      .type = plan_type(x),
      .gates = plan_type(a),
      .A_log = plan_type(A_log),
      .dt_bias = plan_type(dt_bias),
      .state = optionals.state,
      .conv_state = optionals.conv_state,
      .mask = optionals.mask,
      .lengths = optionals.lengths,
      .channel_gate = a.ndim() == 4,
      .snapshots = number(std::max(snapshots, 1)),
  };
}

std::optional<plan::Plan> plan_for(const plan::DeltaShape& shape, const mx::array* lengths, plan::Device device) {
  const bool readable = !lengths || lengths->dtype() == mx::int32;
  return readable && has_plan(shape) ? std::optional(plan::gated_delta(shape, device)) : std::nullopt;
}

// For the twins: the optionals as MLX arrays.
mx::array state_or_zeros(const mx::array* state, const Heads& h, mx::Stream s) {
  return state ? *state : mx::zeros({h.B, h.Hv, h.Dv, h.Dk}, mx::float32, s);
}

Maybe combined_mask(const mx::array* mask, const mx::array* lengths, const Heads& h, mx::Stream s) {
  Maybe all = mask ? Maybe(*mask) : std::nullopt;
  if (lengths) {
    const mx::array in = mx::less(mx::expand_dims(mx::arange(0, h.T, mx::int64, s), 0, s),
                                  mx::expand_dims(mx::astype(*lengths, mx::int64, s), 1, s), s);
    all = all ? mx::logical_and(*all, in, s) : in;
  }
  return all;
}

// What both ops hand to the CPU alike. The state comes as an input and goes as an output, maybe in the same memory.
struct Common {
  cpu::GatedDelta op{};
  Floats A_log, dt_bias;
  const bool* mask = nullptr;
  std::optional<Integers> lengths;

  Common(const Heads& h, const Arrays& in, const Optionals& optionals, size_t first, const mx::array& a,
         const mx::array& b, const mx::array& A_log, const mx::array& dt_bias, int snapshots, mx::array& y,
         mx::array& state)
      : A_log(A_log), dt_bias(dt_bias) {
    op.batch = h.B;
    op.tokens = h.T;
    op.k_heads = h.Hk;
    op.v_heads = h.Hv;
    op.dk = h.Dk;
    op.dv = h.Dv;
    op.a = a.data<void>();
    op.b = b.data<void>();
    op.gate_dtype = dtype_of(a);
    op.channel_gate = a.ndim() == 4;
    op.state = state.data<float>();
    op.snapshots = std::max(snapshots, 1);
    op.y = y.data<void>();
    if (const mx::array* given = optionals.state_in(in, first)) {
      op.state_in = given->data<float>();
    }
    if (const mx::array* given = optionals.mask_in(in, first)) {
      mask = given->data<bool>();
    }
    if (const mx::array* given = optionals.lengths_in(in, first)) {
      lengths.emplace(*given);
    }
  }

  void run(cpu::DeltaBlock* block) {
    const std::vector<float> rates = A_log.read();
    const std::vector<float> biases = dt_bias.read();
    op.A_log = rates.data();
    op.dt_bias = biases.data();
    std::vector<int64_t> ends(op.batch, op.tokens);
    op.mask = mask;
    std::unique_ptr<bool[]> all;
    if (lengths) {
      ends = lengths->read();
      all = std::make_unique<bool[]>(op.batch * op.tokens);
      for (int64_t b = 0; b < op.batch; ++b) {
        ends[b] = std::clamp<int64_t>(ends[b], 0, op.tokens);
        for (int64_t t = 0; t < op.tokens; ++t) {
          all[b * op.tokens + t] = t < ends[b] && (!mask || mask[b * op.tokens + t]);
        }
      }
      op.mask = all.get();
    }
    if (block) {
      block->ends = ends.data();
    }
    op.block = block;
    cpu::gated_delta(op);
  }
};

// ---- gated_delta ----------------------------------------------------------------------------------------------------

struct GatedDelta {
  static constexpr const char* name = "gated_delta";
  bool allow_neg_eigval = false;
  int snapshots = 0;
  Optionals optionals{};
  bool operator==(const GatedDelta&) const = default;

  // inputs: q, k, v, a, b, A_log, dt_bias, then optionals; outputs: y, state
  static constexpr size_t kFirst = 7;
  static Heads heads(const Arrays& in) {
    return {in[2].shape(0), in[2].shape(1), in[1].shape(2), in[2].shape(2), in[1].shape(3), in[2].shape(3)};
  }

  std::vector<Output> outputs(const Arrays& in) const {
    const Heads h = heads(in);
    check_snapshots(name, h, snapshots);
    const bool in_place = optionals.state && !snapshots;
    return {{in[2].shape(), in[0].dtype()},
            {state_shape(h, snapshots), mx::float32, in_place ? static_cast<int>(kFirst) : -1}};
  }

  Task task(const Arrays& in, Arrays& out) const {
    Common common(heads(in), in, optionals, kFirst, in[3], in[4], in[5], in[6], snapshots, out[0], out[1]);
    common.op.dtype = dtype_of(in[0]);
    common.op.allow_neg_eigval = allow_neg_eigval;
    common.op.q = in[0].data<void>();
    common.op.k = in[1].data<void>();
    common.op.v = in[2].data<void>();
    return [common]() mutable { common.run(nullptr); };
  }

  std::optional<plan::Plan> plan(const Arrays& in, plan::Device device) const {
    plan::DeltaShape shape = plan_shape(heads(in), in[0], in[3], in[5], in[6], optionals, snapshots);
    shape.allow_neg_eigval = allow_neg_eigval;
    return plan_for(shape, optionals.lengths_in(in, kFirst), device);
  }

  Arrays twin(const Arrays& in, mx::Stream s) const {
    const Heads h = heads(in);
    const Maybe mask = combined_mask(optionals.mask_in(in, kFirst), optionals.lengths_in(in, kFirst), h, s);
    auto [y, state] =
        recurrence(in[0], in[1], in[2], in[3], in[4], in[5], in[6],
                   state_or_zeros(optionals.state_in(in, kFirst), h, s), mask, allow_neg_eigval, snapshots, s);
    return {mx::astype(y, in[0].dtype(), s), state};
  }
};

// ---- gated_delta_block ----------------------------------------------------------------------------------------------

struct GatedDeltaBlock {
  static constexpr const char* name = "gated_delta_block";
  int k_heads = 1;
  float norm_eps = 0;
  int snapshots = 0;
  Optionals optionals{};
  bool operator==(const GatedDeltaBlock&) const = default;

  // inputs: qkv, z, a, b, conv_weight, A_log, dt_bias, norm_weight, then optionals
  // outputs: y, conv_state, state
  static constexpr size_t kFirst = 8;
  Heads heads(const Arrays& in) const {
    const mx::array& z = in[1];
    const int keys = in[0].shape(2) - z.shape(2) * z.shape(3);
    return {z.shape(0), z.shape(1), k_heads, z.shape(2), keys / (2 * k_heads), z.shape(3)};
  }
  // Of the new conv_state: the last inputs that some convolution to come reaches back to.
  int conv_rows(const Arrays& in) const { return in[4].shape(1) - 1 + std::max(snapshots, 1) - 1; }

  std::vector<Output> outputs(const Arrays& in) const {
    const Heads h = heads(in);
    check_snapshots(name, h, snapshots);
    const int state = static_cast<int>(kFirst) + (optionals.conv_state ? 1 : 0);
    const bool in_place = optionals.state && !snapshots;
    return {{in[1].shape(), in[0].dtype()},
            {{h.B, conv_rows(in), in[0].shape(2)}, in[0].dtype()},
            {state_shape(h, snapshots), mx::float32, in_place ? state : -1}};
  }

  Task task(const Arrays& in, Arrays& out) const {
    Common common(heads(in), in, optionals, kFirst, in[2], in[3], in[5], in[6], snapshots, out[0], out[2]);
    common.op.dtype = dtype_of(in[0]);
    cpu::DeltaBlock block{};
    block.qkv = in[0].data<void>();
    block.z = in[1].data<void>();
    block.conv_weight = in[4].data<void>();
    block.conv_dtype = dtype_of(in[4]);
    block.width = in[4].shape(1);
    block.norm_eps = norm_eps;
    if (const mx::array* given = optionals.conv_state_in(in, kFirst)) {
      block.conv_state = given->data<void>();
    }
    block.new_conv_state = out[1].data<void>();
    return [common, block, norm_weight = Floats(in[7])]() mutable {
      const std::vector<float> weight = norm_weight.read();
      block.norm_weight = weight.data();
      common.run(&block);
    };
  }

  std::optional<plan::Plan> plan(const Arrays& in, plan::Device device) const {
    plan::DeltaShape shape = plan_shape(heads(in), in[0], in[2], in[5], in[6], optionals, snapshots);
    shape.conv = plan_type(in[4]);
    shape.norm = plan_type(in[7]);
    shape.taps = static_cast<uint32_t>(in[4].shape(1));
    shape.norm_eps = norm_eps;
    return plan_for(shape, optionals.lengths_in(in, kFirst), device);
  }

  Arrays twin(const Arrays& in, mx::Stream s) const {
    const auto f32 = [&](const mx::array& x) { return mx::astype(x, mx::float32, s); };
    const Heads h = heads(in);
    const int width = in[4].shape(1);
    const int channels = in[0].shape(2);
    const mx::array* history = optionals.conv_state_in(in, kFirst);
    const mx::array* lengths = optionals.lengths_in(in, kFirst);
    const Maybe mask = combined_mask(optionals.mask_in(in, kFirst), lengths, h, s);
    mx::array qkv = in[0];
    if (mask) {
      qkv = mx::where(mx::expand_dims(*mask, 2, s), qkv, mx::array(0, qkv.dtype()), s);
    }
    const mx::array x =
        mx::concatenate({history ? *history : mx::zeros({h.B, width - 1, channels}, qkv.dtype(), s), qkv}, 1, s);
    mx::array conv_state = mx::slice(x, {0, x.shape(1) - conv_rows(in), 0}, x.shape(), s);
    if (lengths) {
      const mx::array ends = mx::clip(mx::astype(*lengths, mx::int32, s), mx::array(0), mx::array(h.T), s);
      const mx::array at = mx::add(mx::expand_dims(ends, 1, s), mx::arange(0, width - 1, mx::int32, s), s);
      conv_state = mx::take_along_axis(x, mx::expand_dims(at, 2, s), 1, s);
    }
    mx::array conv = mx::zeros({h.B, h.T, channels}, mx::float32, s);
    for (int j = 0; j < width; ++j) {
      const mx::array shifted = mx::slice(x, {0, j, 0}, {h.B, j + h.T, channels}, s);
      const mx::array tap = mx::squeeze(mx::slice(in[4], {0, j, 0}, {channels, j + 1, 1}, s), {1, 2}, s);
      conv = mx::add(conv, mx::multiply(f32(shifted), f32(tap), s), s);
    }
    conv = silu(conv, s);
    const int keys = h.Hk * h.Dk;
    const auto part = [&](int from, int to, int heads, int dim) {
      return mx::reshape(mx::slice(conv, {0, 0, from}, {h.B, h.T, to}, s), {h.B, h.T, heads, dim}, s);
    };
    const auto normalised = [&](const mx::array& y, float scale) {
      const mx::array norm = mx::rsqrt(mx::add(mx::sum(mx::square(y, s), -1, true, s), mx::array(1e-6F), s), s);
      return mx::multiply(y, mx::multiply(norm, mx::array(scale), s), s);
    };
    const mx::array q = normalised(part(0, keys, h.Hk, h.Dk), 1.0F / std::sqrt(static_cast<float>(h.Dk)));
    const mx::array k = normalised(part(keys, 2 * keys, h.Hk, h.Dk), 1.0F);
    const mx::array v = part(2 * keys, channels, h.Hv, h.Dv);
    auto [y, state] = recurrence(q, k, v, in[2], in[3], in[5], in[6],
                                 state_or_zeros(optionals.state_in(in, kFirst), h, s), mask, false, snapshots, s);
    y = mx::multiply(rms_norm(y, f32(in[7]), norm_eps, s), silu(f32(in[1]), s), s);
    if (mask) {
      y = mx::where(mx::expand_dims(*mask, {2, 3}, s), y, mx::array(0.0F), s);
    }
    return {mx::astype(y, in[0].dtype(), s), conv_state, state};
  }
};

}  // namespace

std::tuple<mx::array, mx::array> gated_delta(const mx::array& q, const mx::array& k, const mx::array& v,
                                             const mx::array& a, const mx::array& b, const mx::array& A_log,
                                             const mx::array& dt_bias, const Maybe& state, const Maybe& mask,
                                             const Maybe& lengths, bool allow_neg_eigval, int snapshots,
                                             mx::StreamOrDevice s) {
  constexpr const char* op = GatedDelta::name;
  check_float(op, "q", q);
  check_same_dtype(op, "k", k, "q", q);
  check_same_dtype(op, "v", v, "q", q);
  check_ndim(op, "q", q, 4);
  check_shape(op, "k", k, q.shape());
  check_shape(op, "v", v, {q.shape(0), q.shape(1), -1, -1});
  const Heads h{q.shape(0), q.shape(1), q.shape(2), v.shape(2), q.shape(3), v.shape(3)};
  check_heads(op, h);
  GatedDelta spec{allow_neg_eigval, snapshots};
  Arrays inputs{q, k, v, a, b, A_log, dt_bias};
  const mx::Stream stream = mx::to_stream(s);
  check_rest(op, h, a, b, A_log, dt_bias, a.ndim() == 4, state, mask, lengths, snapshots, stream, inputs,
             spec.optionals);
  const Arrays out = make(spec, inputs, stream);
  return {out[0], out[1]};
}

std::tuple<mx::array, mx::array, mx::array> gated_delta_block(const mx::array& qkv, const mx::array& z,
                                                              const mx::array& a, const mx::array& b,
                                                              const mx::array& conv_weight, const mx::array& A_log,
                                                              const mx::array& dt_bias, const mx::array& norm_weight,
                                                              const Maybe& conv_state, const Maybe& state,
                                                              const Maybe& mask, const Maybe& lengths, int num_k_heads,
                                                              float norm_eps, int snapshots, mx::StreamOrDevice s) {
  constexpr const char* op = GatedDeltaBlock::name;
  check_float(op, "qkv", qkv);
  check_same_dtype(op, "z", z, "qkv", qkv);
  check_float(op, "conv_weight", conv_weight);
  check_ndim(op, "qkv", qkv, 3);
  check_shape(op, "z", z, {qkv.shape(0), qkv.shape(1), -1, -1});
  require(num_k_heads >= 1, op, "num_k_heads is ", num_k_heads, ". Expected at least 1.");
  const int channels = qkv.shape(2);
  const int keys = channels - z.shape(2) * z.shape(3);
  require(keys > 0 && keys % (2 * num_k_heads) == 0, op, "qkv has ", channels, " channels, z has ", z.shape(2),
          " heads of ", z.shape(3), " and num_k_heads is ", num_k_heads, ". Expected 2 * Hk * Dk + Hv * Dv channels.");
  const Heads h{qkv.shape(0), qkv.shape(1), num_k_heads, z.shape(2), keys / (2 * num_k_heads), z.shape(3)};
  check_heads(op, h);
  check_shape(op, "conv_weight", conv_weight, {channels, -1, 1});
  const int width = conv_weight.shape(1);
  require(width >= 2 && width <= cpu::kMaxTaps, op, "conv_weight has ", width, " taps. Expected 2 to ", cpu::kMaxTaps,
          ".");
  check_float(op, "norm_weight", norm_weight);
  check_shape(op, "norm_weight", norm_weight, {h.Dv});
  GatedDeltaBlock spec{num_k_heads, norm_eps, snapshots};
  Arrays inputs{qkv, z, a, b, conv_weight, A_log, dt_bias, norm_weight};
  if (conv_state) {
    check_same_dtype(op, "conv_state", *conv_state, "qkv", qkv);
    check_shape(op, "conv_state", *conv_state, {h.B, width - 1, channels});
    spec.optionals.conv_state = true;
    inputs.push_back(*conv_state);
  }
  const mx::Stream stream = mx::to_stream(s);
  check_rest(op, h, a, b, A_log, dt_bias, false, state, mask, lengths, snapshots, stream, inputs, spec.optionals);
  const Arrays out = make(spec, inputs, stream);
  return {out[0], out[1], out[2]};
}

}  // namespace deltamoe
