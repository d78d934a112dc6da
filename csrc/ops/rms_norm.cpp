#include "cpu/ops.h"
#include "ops/check.h"
#include "ops/ops.h"
#include "ops/read.h"

namespace deltamoe {

namespace {

struct RmsNorm {
  static constexpr const char* name = "rms_norm";
  float eps;
  bool operator==(const RmsNorm&) const = default;

  // inputs: x [, weight]
  std::vector<Output> outputs(const Arrays& in) const { return {{in[0].shape(), in[0].dtype(), 0}}; }

  Task task(const Arrays& in, Arrays& out) const {
    const int64_t n = in[0].shape(-1);
    const int64_t rows = n ? static_cast<int64_t>(in[0].size()) / n : 0;
    std::optional<Floats> weight;
    if (in.size() > 1) {
      weight.emplace(in[1]);
    }
    return [*this, n, rows, weight, x = in[0].data<void>(), dtype = dtype_of(in[0]), y = out[0].data<void>()] {
      const std::vector<float> w = weight ? weight->read() : std::vector<float>();
      cpu::rms_norm(x, dtype, rows, n, weight ? w.data() : nullptr, eps, y);
    };
  }

  Arrays twin(const Arrays& in, mx::Stream s) const {
    const mx::array x = mx::astype(in[0], mx::float32, s);
    const mx::array mean = mx::mean(mx::square(x, s), -1, true, s);
    mx::array y = mx::multiply(x, mx::rsqrt(mx::add(mean, mx::array(eps), s), s), s);
    if (in.size() > 1) {
      y = mx::multiply(y, mx::astype(in[1], mx::float32, s), s);
    }
    return {mx::astype(y, in[0].dtype(), s)};
  }
};

}  // namespace

mx::array rms_norm(const mx::array& x, const Maybe& weight, float eps, mx::StreamOrDevice s) {
  constexpr const char* op = RmsNorm::name;
  check_float(op, "x", x);
  require(x.ndim() >= 1, op, "x has no axes. Expected [..., D].");
  require(eps >= 0, op, "eps is ", eps, ". Expected a number that is not negative.");
  Arrays inputs{x};
  if (weight) {
    check_float(op, "weight", *weight);
    check_shape(op, "weight", *weight, {x.shape(-1)});
    inputs.push_back(*weight);
  }
  return make(RmsNorm{eps}, inputs, mx::to_stream(s))[0];
}

}  // namespace deltamoe
