#include "plan/moe_router.h"

#include "cpu/ops.h"
#include "ops/check.h"
#include "ops/ops.h"

namespace deltamoe {

namespace {

struct MoeRouter {
  static constexpr const char* name = "moe_router";
  int k;
  bool normalize;
  bool operator==(const MoeRouter&) const = default;

  // inputs: logits; outputs: indices, scores
  std::vector<Output> outputs(const Arrays& in) const {
    mx::Shape shape = in[0].shape();
    shape.back() = k;
    return {{shape, mx::uint32}, {shape, mx::float32}};
  }

  Task task(const Arrays& in, Arrays& out) const {
    const int experts = in[0].shape(-1);
    const auto tokens = static_cast<int64_t>(in[0].size()) / experts;
    return [*this, logits = in[0].data<void>(), dtype = dtype_of(in[0]), tokens, experts,
            indices = out[0].data<uint32_t>(), scores = out[1].data<float>()] {
      cpu::moe_router(logits, dtype, tokens, experts, k, normalize, indices, scores);
    };
  }

  std::optional<plan::Plan> plan(const Arrays& in, plan::Device device) const {
    const int experts = in[0].shape(-1);
    const plan::RouterShape shape{
        .tokens = static_cast<uint32_t>(in[0].size() / experts),
        .experts = static_cast<uint32_t>(experts),
        .k = static_cast<uint32_t>(k),
        .type = plan_type(in[0]),
        .normalize = normalize,
    };
    return has_plan(shape) ? std::optional(plan::moe_router(shape, device)) : std::nullopt;
  }

  Arrays twin(const Arrays& in, mx::Stream s) const {
    const mx::array p = mx::softmax(mx::astype(in[0], mx::float32, s), -1, true, s);
    // argsort is stable: of equal probabilities the larger index comes last, as in the kernel.
    const mx::array order = mx::argsort(mx::stop_gradient(p, s), -1, s);
    mx::Shape start(p.ndim(), 0);
    start.back() = p.shape(-1) - k;
    const mx::array indices = mx::slice(order, start, p.shape(), s);
    mx::array scores = mx::take_along_axis(p, indices, -1, s);
    if (normalize) {
      scores = mx::divide(scores, mx::sum(scores, -1, true, s), s);
    }
    return {indices, scores};
  }
};

}  // namespace

std::tuple<mx::array, mx::array> moe_router(const mx::array& logits, int k, bool normalize, mx::StreamOrDevice s) {
  constexpr const char* op = MoeRouter::name;
  check_float(op, "logits", logits);
  require(logits.ndim() >= 1, op, "logits has no axes. Expected [..., experts].");
  require(k >= 1 && k <= logits.shape(-1), op, "k is ", k, ". Expected 1 to ", logits.shape(-1),
          ", the number of experts in the last axis of logits.");
  const Arrays out = make(MoeRouter{k, normalize}, {logits}, mx::to_stream(s));
  return {out[0], out[1]};
}

}  // namespace deltamoe
