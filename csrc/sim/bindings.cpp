// deltamoe_sim._executor: the executor for Python. numpy arrays in and out.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "sim/dispatch.h"
#include "sim/symbols.h"

namespace py = pybind11;

namespace deltamoe::sim {
namespace {

std::unordered_map<std::string, uintptr_t> symbol_addresses() {
  std::unordered_map<std::string, uintptr_t> addresses;
  for (const auto& [name, address] : all_symbols()) {
    addresses[name] = reinterpret_cast<uintptr_t>(address);
  }
  return addresses;
}

Buffer make_buffer(std::string name, const py::array& array, bool read_only, uint32_t granule,
                   std::optional<py::array_t<uint8_t, py::array::c_style>> written) {
  if ((array.flags() & py::array::c_style) == 0) {
    throw py::value_error("buffer " + name + " is not C-contiguous");
  }
  char* mask = nullptr;
  if (written) {
    if (written->nbytes() != array.nbytes()) {
      throw py::value_error("buffer " + name + ": `written` has not one byte for each of the array");
    }
    mask = reinterpret_cast<char*>(written->mutable_data());
  }
  // An array that is only read may be read-only itself.
  char* data = read_only ? static_cast<char*>(const_cast<void*>(array.data()))
                         : static_cast<char*>(py::array(array).mutable_data());
  return {std::move(name), data, static_cast<size_t>(array.nbytes()), read_only, granule, mask};
}

py::dict counters_dict(const Counters& c) {
  py::dict d;
  d["barriers"] = c.barriers;
  d["simd_ops"] = c.simd_ops;
  d["matrix_ops"] = c.matrix_ops;
  d["threadgroup_memory"] = c.threadgroup_memory;
  d["device_bytes_loaded"] = c.device_bytes_loaded;
  d["device_bytes_stored"] = c.device_bytes_stored;
  d["device_lines_loaded"] = c.device_lines_loaded;
  d["device_lines_stored"] = c.device_lines_stored;
  d["threadgroup_bytes_loaded"] = c.threadgroup_bytes_loaded;
  d["threadgroup_bytes_stored"] = c.threadgroup_bytes_stored;
  d["flops"] = c.flops;
  d["idle_lanes"] =
      c.lane_steps == 0 ? 0.0 : static_cast<double>(c.idle_lane_steps) / static_cast<double>(c.lane_steps);
  return d;
}

Outcome dispatch(uintptr_t entry, std::vector<Buffer> buffers,
                 const std::vector<std::tuple<uint32_t, size_t, size_t>>& bindings,
                 const std::array<uint32_t, kMaxBuffers>& threadgroup_bytes, const Dim& threadgroups,
                 const Dim& threads, const Dim& threads_per_threadgroup,
                 const std::vector<std::pair<uintptr_t, size_t>>& constants, bool checked, unsigned workers,
                 uint32_t seed, double timeout) {
  Dispatch d;
  d.launch.entry =
      reinterpret_cast<Entry>(entry);  // NOLINT(performance-no-int-to-ptr): the compiler in Python has numbers
  d.launch.threadgroup_bytes = threadgroup_bytes;
  d.launch.threadgroups = threadgroups;
  d.launch.threads = threads;
  d.launch.threads_per_threadgroup = threads_per_threadgroup;
  d.launch.seed = seed;
  for (const auto& [begin, size] : constants) {
    d.launch.constants.push_back({reinterpret_cast<const char*>(begin), size});  // NOLINT(performance-no-int-to-ptr)
  }
  d.buffers = std::move(buffers);
  for (const auto& [index, buffer, offset] : bindings) {
    d.bindings.push_back({index, buffer, offset});
  }
  d.checked = checked;
  d.workers = workers;
  d.timeout = timeout;
  bool interrupt = false;
  Outcome outcome;
  {
    const py::gil_scoped_release release;
    outcome = run(d, [&] {
      const py::gil_scoped_acquire acquire;
      interrupt = PyErr_CheckSignals() != 0;
      return interrupt;
    });
  }
  if (interrupt) {
    throw py::error_already_set();
  }
  return outcome;
}

}  // namespace
}  // namespace deltamoe::sim

PYBIND11_MODULE(_executor, m) {
  using namespace deltamoe::sim;  // NOLINT(google-build-using-namespace)
  m.doc() = "Runs compiled Metal kernels: one fiber per lane, SIMD-group operations and barriers as rendezvous.";
  py::class_<Buffer>(m, "Buffer")
      .def(py::init(&make_buffer), py::arg("name"), py::arg("array"), py::arg("read_only"), py::arg("granule"),
           py::arg("written").noconvert() = py::none(), py::keep_alive<1, 3>(), py::keep_alive<1, 6>());
  py::class_<Report>(m, "Report")
      .def_property_readonly("kind", [](const Report& r) { return name_of(r.kind); })
      .def_readonly("site", &Report::site)
      .def_readonly("message", &Report::message)
      .def_readonly("threadgroup", &Report::threadgroup)
      .def_readonly("simdgroup", &Report::simdgroup)
      .def_readonly("lane", &Report::lane)
      .def_readonly("count", &Report::count);
  py::class_<Outcome>(m, "Outcome")
      .def_readonly("fault", &Outcome::fault)
      .def_readonly("site", &Outcome::site)
      .def_readonly("threadgroup", &Outcome::threadgroup)
      .def_readonly("simdgroup", &Outcome::simdgroup)
      .def_readonly("lane", &Outcome::lane)
      .def_readonly("reports", &Outcome::reports)
      .def_readonly("seconds", &Outcome::seconds)
      .def_property_readonly("traffic",
                             [](const Outcome& o) {
                               std::vector<std::array<uint64_t, 4>> traffic;
                               traffic.reserve(o.traffic.size());
                               for (const Traffic& t : o.traffic) {
                                 traffic.push_back({t.bytes_loaded, t.bytes_stored, t.lines_loaded, t.lines_stored});
                               }
                               return traffic;
                             })
      .def_property_readonly("counters", [](const Outcome& o) { return counters_dict(o.counters); });
  m.def("symbols", &symbol_addresses, "Name -> address of everything that compiled kernels may refer to.");
  m.def("dispatch", &dispatch, py::arg("entry"), py::arg("buffers"), py::arg("bindings"), py::arg("threadgroup_bytes"),
        py::arg("threadgroups"), py::arg("threads"), py::arg("threads_per_threadgroup"), py::arg("constants"),
        py::arg("checked"), py::arg("workers"), py::arg("seed"), py::arg("timeout"),
        "Runs one dispatch; buffers are written in place when it ends well.");
  m.attr("NO_SITE") = kNoSite;
}
