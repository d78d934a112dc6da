// The extension module deltamoe._ext. Documentation of the ops: python/deltamoe/ops.py.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include "cpu/features.h"
#include "cpu/pool.h"
#include "limits_bindings.h"
#include "ops/ops.h"
#include "plan_bindings.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace deltamoe {

namespace {

using Matrix = std::tuple<mx::array, mx::array, mx::array>;
using Expert = std::tuple<Matrix, Matrix, Matrix>;

Quantized quantized(const Matrix& m) { return {std::get<0>(m), std::get<1>(m), std::get<2>(m)}; }
Mlp mlp(const Expert& e) { return {quantized(std::get<0>(e)), quantized(std::get<1>(e)), quantized(std::get<2>(e))}; }

}  // namespace

NB_MODULE(_ext, m) {
  m.attr("built_for_mlx") = DELTAMOE_MLX_VERSION;

  m.def("cpu_features", [] {
    nb::dict features;
    features["isa"] = cpu::isa();
    features["available"] = cpu::available_isas();
    features["threads"] = cpu::Pool::instance().threads();
    return features;
  });
  m.def("use_isa", [](const std::string& name) { cpu::use_isa(name); }, "name"_a);
  m.def(
      "set_threads", [](int n) { cpu::Pool::instance().set_threads(n); }, "n"_a,
      nb::call_guard<nb::gil_scoped_release>());

  m.def(
      "qlinear", [](const mx::array& x, const Matrix& w, mx::StreamOrDevice s) { return qlinear(x, quantized(w), s); },
      "x"_a, "w"_a, nb::kw_only(), "stream"_a = nb::none());
  m.def("moe_router", &moe_router, "logits"_a, "k"_a, "normalize"_a = true, nb::kw_only(), "stream"_a = nb::none());
  m.def(
      "moe_experts",
      [](const mx::array& x, const mx::array& indices, const mx::array& scores, const Matrix& gate, const Matrix& up,
         const Matrix& down, const std::optional<Expert>& shared, const std::optional<Matrix>& shared_gate,
         mx::StreamOrDevice s) {
        std::optional<Mlp> one;
        if (shared) {
          one = mlp(*shared);
        }
        std::optional<Quantized> weight;
        if (shared_gate) {
          weight = quantized(*shared_gate);
        }
        return moe_experts(x, indices, scores, {quantized(gate), quantized(up), quantized(down)}, one, weight, s);
      },
      "x"_a, "indices"_a, "scores"_a, "gate"_a, "up"_a, "down"_a, "shared"_a = nb::none(), "shared_gate"_a = nb::none(),
      nb::kw_only(), "stream"_a = nb::none());
  m.def("gated_delta", &gated_delta, "q"_a, "k"_a, "v"_a, "a"_a, "b"_a, "A_log"_a, "dt_bias"_a, "state"_a = nb::none(),
        "mask"_a = nb::none(), "lengths"_a = nb::none(), nb::kw_only(), "allow_neg_eigval"_a = false, "snapshots"_a = 0,
        "stream"_a = nb::none());
  m.def("gated_delta_block", &gated_delta_block, "qkv"_a, "z"_a, "a"_a, "b"_a, "conv_weight"_a, "A_log"_a, "dt_bias"_a,
        "norm_weight"_a, "conv_state"_a = nb::none(), "state"_a = nb::none(), "mask"_a = nb::none(),
        "lengths"_a = nb::none(), nb::kw_only(), "num_k_heads"_a, "norm_eps"_a = 1e-6F, "snapshots"_a = 0,
        "stream"_a = nb::none());
  m.def("rms_norm", &rms_norm, "x"_a, "weight"_a.none(), "eps"_a, nb::kw_only(), "stream"_a = nb::none());
  m.def("attention", &attention, "q"_a, "k"_a, "v"_a, "scale"_a, "gate"_a = nb::none(), nb::kw_only(),
        "causal"_a = true, "stream"_a = nb::none());

  bind_limits(m);
  bind_plans(m);
}

}  // namespace deltamoe
