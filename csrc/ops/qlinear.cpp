#include "cpu/ops.h"
#include "ops/check.h"
#include "ops/ops.h"

namespace deltamoe {

namespace {

struct QLinear {
  static constexpr const char* name = "qlinear";
  Format format;
  bool operator==(const QLinear&) const = default;

  // inputs: x, codes, scales, biases
  std::vector<Output> outputs(const Arrays& in) const {
    mx::Shape shape = in[0].shape();
    shape.back() = in[1].shape(0);
    return {{shape, in[0].dtype()}};
  }

  Task task(const Arrays& in, Arrays& out) const {
    return [x = in[0].data<void>(), dtype = dtype_of(in[0]), m = rows(in[0]), w = cpu_quantized_at(in, 1, format),
            y = out[0].data<void>()] { cpu::qlinear(x, dtype, m, w, y); };
  }

  Arrays twin(const Arrays& in, mx::Stream s) const {
    return {mx::astype(project(in[0], quantized_at(in, 1), format, s), in[0].dtype(), s)};
  }
  Arrays dense_twin(const Arrays& in, mx::Stream s) const {
    return {mx::astype(project_dense(in[0], quantized_at(in, 1), format, s), in[0].dtype(), s)};
  }

  static int64_t rows(const mx::array& x) { return static_cast<int64_t>(x.size()) / x.shape(-1); }
};

}  // namespace

mx::array qlinear(const mx::array& x, const Quantized& w, mx::StreamOrDevice s) {
  constexpr const char* op = QLinear::name;
  check_float(op, "x", x);
  require(x.ndim() >= 1, op, "x has no axes. Expected [..., K].");
  const Format format = check_quantized(op, "w", w, 0, -1, x.shape(-1));
  Arrays inputs{x};
  append(inputs, w);
  return make(QLinear{format}, inputs, mx::to_stream(s))[0];
}

}  // namespace deltamoe
