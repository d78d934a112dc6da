// The executor by itself, without Python and without a JIT: a few kernels written as C++ against the functions that
// compiled kernels call. test_executor.py builds it for this machine and, under an emulator, for 64-bit Arm: it shows
// that the context switch, the scheduler and the signal handling work there.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "sim/dispatch.h"
#include "sim/symbols.h"

namespace sim = deltamoe::sim;

namespace {

template <class F>
F* function(const char* name) {
  static const sim::Symbols symbols = sim::all_symbols();
  return reinterpret_cast<F*>(symbols.at(name));
}

float simd_sum(float x) { return function<float(float, sim::Site)>("air.simd_sum.f32")(x, 1); }
void threadgroup_barrier() { function<void(uint32_t, uint32_t, sim::Site)>("air.wg.barrier")(2, 1, 2); }
double multiply(double a, double b, double c) {
  return function<double(double, double, double, sim::Site)>("sim.matrix_multiply_accumulate")(a, b, c, 3);
}
double pair(float x, float y) {
  const float both[2] = {x, y};
  double bits = 0;
  memcpy(&bits, both, sizeof bits);
  return bits;
}

// y[i] = the sum over the other simdgroup's x.
void sums(void* const* buffers, void* const* /*threadgroup*/, const sim::Position* p) {
  auto* const x = static_cast<const float*>(buffers[0]);
  auto* const y = static_cast<float*>(buffers[1]);
  auto* const shared = static_cast<float*>(
      function<void*(uint32_t, uint64_t, uint64_t, const char*)>("sim.threadgroup")(0, 8, 4, "shared"));
  const float sum = simd_sum(x[p->thread_in_grid[0]]);
  if (p->thread_index_in_simdgroup == 0) {
    shared[p->simdgroup_index] = sum;
  }
  threadgroup_barrier();
  y[p->thread_in_grid[0]] = shared[1 - p->simdgroup_index];
}

// y[i] = an element of (all ones) (all twos) + 1 = 17.
void matrices(void* const* buffers, void* const* /*threadgroup*/, const sim::Position* p) {
  const double d = multiply(pair(1, 1), pair(2, 2), pair(1, 1));
  float both[2];
  memcpy(both, &d, sizeof both);
  static_cast<float*>(buffers[1])[p->thread_in_grid[0]] = both[0] + both[1];
}

void crash(void* const* buffers, void* const* /*threadgroup*/, const sim::Position* /*p*/) {
  static_cast<float*>(buffers[1])[size_t{1} << 22] = 1;
}

void spin(void* const* buffers, void* const* /*threadgroup*/, const sim::Position* /*p*/) {
  auto* const y = static_cast<volatile float*>(buffers[1]);
  while (y[0] == 0) {
  }
}

void checked_read(void* const* buffers, void* const* /*threadgroup*/, const sim::Position* p) {
  auto* const load = function<void*(void*, uint32_t, uint32_t, sim::Site)>("sim.load");
  auto* const store = function<void*(void*, uint32_t, uint32_t, sim::Site)>("sim.store");
  const uint32_t i = p->thread_in_grid[0];
  const float value = *static_cast<float*>(load(static_cast<float*>(buffers[0]) + i + 1, 4, 4, 4));
  *static_cast<float*>(store(static_cast<float*>(buffers[1]) + i, 4, 4, 5)) = value;
}

int failures = 0;

void expect(bool condition, const char* what) {
  printf("%s: %s\n", condition ? "ok" : "FAILED", what);
  failures += condition ? 0 : 1;
}

constexpr uint32_t kThreads = 64, kGroups = 8;

sim::Outcome run(sim::Entry entry, std::vector<float>& x, std::vector<float>& y, bool checked = false) {
  sim::Dispatch d;
  d.launch.entry = entry;
  d.launch.threadgroups = {kGroups, 1, 1};
  d.launch.threads = {kGroups * kThreads, 1, 1};
  d.launch.threads_per_threadgroup = {kThreads, 1, 1};
  d.launch.seed = 1;
  d.buffers.push_back({"x", reinterpret_cast<char*>(x.data()), x.size() * 4, true, 4});
  d.buffers.push_back({"y", reinterpret_cast<char*>(y.data()), y.size() * 4, false, 4});
  d.bindings = {{0, 0, 0}, {1, 1, 0}};
  d.checked = checked;
  d.workers = 2;
  d.timeout = 1;
  return sim::run(d, [] { return false; });
}

}  // namespace

int main() {
  std::vector<float> x(kGroups * kThreads), y(x.size());
  for (size_t i = 0; i < x.size(); i++) {
    x[i] = static_cast<float>(i);
  }
  sim::Outcome outcome = run(sums, x, y);
  expect(outcome.fault.empty() && outcome.reports.empty(), "sums runs");
  expect(y[0] == 32 * 32 + 496 && y[32] == 496, "sums across a barrier");
  expect(outcome.counters.barriers == kGroups && outcome.counters.simd_ops == 2 * kGroups, "sums counts");

  outcome = run(matrices, x, y);
  expect(y[0] == 34 && y[x.size() - 1] == 34 && outcome.counters.matrix_ops == 2 * kGroups, "matrices");

  outcome = run(crash, x, y);
  expect(outcome.fault.find("not the kernel's") != std::string::npos, "a wild write ends the launch");

  y[0] = 0;
  outcome = run(spin, x, y);
  expect(outcome.fault.find("did not end") != std::string::npos, "an endless loop ends the launch");

  outcome = run(checked_read, x, y, true);
  expect(outcome.reports.size() == 1 && outcome.reports[0].kind == sim::Kind::out_of_bounds &&
             outcome.reports[0].site == 4 && outcome.reports[0].count == 1,
         "a read beyond a buffer is reported");
  expect(y[0] == 1, "the other reads are made");
  return failures == 0 ? 0 : 1;
}
