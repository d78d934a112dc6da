#include "limits_bindings.h"

#include <nanobind/ndarray.h>

#include "cpu/limits.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace deltamoe {

void bind_limits(nb::module_& m) {
  using Words = nb::ndarray<const uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
  const auto release = nb::call_guard<nb::gil_scoped_release>();
  m.def("multiply_f32", &cpu::multiply_f32, "tasks"_a, release);
  m.def("multiply_bf16", &cpu::multiply_bf16, "tasks"_a, release);
  m.def(
      "read_all", [](const Words& words) { return cpu::read_all(words.data(), words.size()); }, "words"_a.noconvert(),
      release);
}

}  // namespace deltamoe
