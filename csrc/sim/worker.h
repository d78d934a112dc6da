// One thread's executor: runs a threadgroup as one fiber per lane. SIMD-group operations and barriers are rendezvous: a
// lane that comes to one waits there until all that take part have come; the last one does the work for all.
//
// The order is fixed by the seed: the simdgroups of a threadgroup take turns, each running from barrier to barrier, in
// an order shuffled anew for each threadgroup. A kernel that needs no luck gives the same results for every seed.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "sim/fiber.h"
#include "sim/pages.h"
#include "sim/types.h"

namespace deltamoe::sim {

class Memory;
class Worker;
struct SimdGroup;

// What a rendezvous does, given the lanes that take part (a mask).
using Combine = void (*)(Worker&, SimdGroup&, uint32_t active);

struct Lane {
  enum class Wait : uint8_t { none, simd, barrier, done };

  void* stack_pointer = nullptr;
  char* stack = nullptr;  // its lowest byte
  SimdGroup* group = nullptr;
  uint32_t index = 0;  // in the simdgroup
  Wait wait = Wait::none;
  Site site = kNoSite;  // of the last rendezvous
  Combine combine = nullptr;
  uint32_t flags = 0;  // of the barrier it waits at
  Position position{};
};

struct SimdGroup {
  uint32_t index = 0;
  uint32_t all = 0;       // lanes that the threadgroup has here
  uint32_t alive = 0;     // lanes that have not returned
  uint32_t runnable = 0;  // lanes that wait for nothing
  uint32_t waiting = 0;   // lanes at the rendezvous `site`
  Site site = kNoSite;
  // simdgroup_barriers passed, by the memory they order.
  uint32_t device_epoch = 0, threadgroup_epoch = 0;

  // Operands by lane: a lane leaves its own here and finds its result in `value`.
  std::array<uint64_t, kSimdWidth> value{}, fill{};
  std::array<uint32_t, kSimdWidth> argument{}, modulo{};
  // Operands of a matrix multiplication, 8 x 8 row by row.
  alignas(64) std::array<float, 64> a{}, b{}, c{};

  // Instructions each lane has executed since the last rendezvous (checked mode).
  std::array<uint64_t, kSimdWidth> steps{};
};

// Where a lane's two elements of an 8 x 8 matrix lie: at this index and the next.
constexpr uint32_t matrix_index(uint32_t lane) {
  const uint32_t quad = lane / 4, row = (quad & 4) + (lane / 2) % 4, column = (quad & 2) * 2 + (lane % 2) * 2;
  return row * 8 + column;
}

// The memory that a threadgroup shares: variables with red zones between them.
class ThreadgroupMemory {
 public:
  struct Variable {
    uint32_t id;
    size_t offset, size;
    std::string name;
  };
  static constexpr size_t kArena = size_t{1} << 20, kRedZone = 64;

  ThreadgroupMemory();
  void reset();
  // The address of variable `id`; nullptr if it does not fit into the arena.
  char* find_or_add(uint32_t id, size_t size, size_t align, const char* name);
  void poison();  // for a new threadgroup
  char* base() const { return arena_.get(); }
  size_t used() const { return used_; }  // bytes as Metal counts them: each variable rounded up to 16
  const std::vector<Variable>& variables() const { return variables_; }
  bool contains(const void* p) const { return static_cast<size_t>(static_cast<const char*>(p) - base()) < kArena; }

 private:
  std::unique_ptr<char[]> arena_;
  std::vector<Variable> variables_;
  size_t top_ = 0, used_ = 0;
};

// A global of the compiled kernel, which it may read.
struct Constant {
  const char* begin;
  size_t size;
};

// A launch, ready to run.
struct Launch {
  Entry entry = nullptr;
  std::array<void*, kMaxBuffers> buffers{};
  std::array<uint32_t, kMaxBuffers> threadgroup_bytes{};  // dynamic threadgroup memory by [[threadgroup(i)]]
  Dim threadgroups{}, threads{}, threads_per_threadgroup{};
  std::vector<Constant> constants;
  uint32_t seed = 0;
};

class Worker {
 public:
  // The runtime is at work on a lane's stack: a cancellation waits for its end.
  class Busy;

  static constexpr size_t kStack = size_t{1} << 18;  // bytes of each lane's private memory

  Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // The worker whose kernel code runs on this thread; nullptr elsewhere.
  static Worker* current() { return current_; }

  // Makes ready for a launch; `memory` is null in fast mode.
  void begin(const Launch& launch, Memory* memory);
  // Runs one threadgroup to its end. False when it was abandoned: `fault()` says why, and the worker takes no more.
  bool run(Dim threadgroup);
  void end();

  // ---- called on a lane's stack
  uint64_t rendezvous(Combine combine, uint64_t value, uint64_t fill, uint32_t argument, uint32_t modulo, Site site);
  double multiply_accumulate(double a, double b, double c, Site site);
  void barrier(uint32_t flags, Site site);
  void* threadgroup_variable(uint32_t id, size_t size, size_t align, const char* name);
  void report(Kind kind, Site site, std::string message);
  // Gives up the launch: leaves the lane for good.
  [[noreturn]] void abandon(std::string why);

  // ---- called from a signal handler on this thread
  // Gives up the launch as soon as the runtime is not at work: at once, without returning, where kernel code runs.
  void cancel(const char* why);
  bool in_kernel() const { return !scheduling_; }

  Lane& lane() { return *lane_; }
  const std::string& fault() const { return fault_; }
  std::vector<Report>& reports() { return reports_; }
  Counters& counters() { return counters_; }
  ThreadgroupMemory& threadgroup_memory() { return threadgroup_memory_; }
  Memory* memory() { return memory_; }
  // The lane whose private memory holds p, if any; where p lies in that of all lanes.
  const Lane* lane_of_stack(const void* p) const;
  size_t stack_offset(const void* p) const { return static_cast<size_t>(static_cast<const char*>(p) - stacks_.data()); }
  // Whether p is what a kernel's entry reads its arguments from, or a constant of the compiled kernel.
  bool may_read(const void* p, size_t size) const;
  const Dim& threadgroup() const { return threadgroup_; }
  // Counts the lanes of a SIMD-group operation that did nothing while others worked.
  void settle_steps(SimdGroup& group);
  void note_matrix_op() { counters_.matrix_ops++; }
  void note_simd_barrier(SimdGroup& group, uint32_t flags);

 private:
#if defined(__linux__)
  // One memory access instead of a call: this is read at each rendezvous.
  __attribute__((tls_model("initial-exec")))
#endif
  static constinit inline thread_local Worker* current_ = nullptr;

  static void lane_main();
  void start_lanes();
  void switch_to(Lane& next);
  void leave();  // to the next lane of the simdgroup that can run, else to the scheduler
  bool run_simdgroup(SimdGroup& group);
  void combine(SimdGroup& group, uint32_t active, Combine op, Site site);
  bool release_barrier();
  void heed_cancellation() {
    if (cancelled_.load(std::memory_order_relaxed) != nullptr && busy_.load(std::memory_order_relaxed) == 0 &&
        !scheduling_.load(std::memory_order_relaxed)) {
      abandon(cancelled_.load());
    }
  }

  const Launch* launch_ = nullptr;
  Memory* memory_ = nullptr;
  std::unique_ptr<Lane[]> lanes_;
  std::unique_ptr<SimdGroup[]> groups_;
  Pages stacks_;
  uint32_t lane_count_ = 0, group_count_ = 0;
  Dim threadgroup_{};
  std::array<void*, kMaxBuffers> dynamic_{};
  ThreadgroupMemory threadgroup_memory_;

  Lane* lane_ = nullptr;  // that runs, or that the scheduler speaks for
  void* scheduler_ = nullptr;
  uint64_t steps_mark_ = 0;
  std::string fault_;
  // Read and written by the signal handler too, on the same thread.
  std::atomic<const char*> cancelled_ = nullptr;
  std::atomic<int> busy_ = 0;
  std::atomic<bool> scheduling_ = true;
  std::vector<Report> reports_;
  Counters counters_;
};

class Worker::Busy {
 public:
  explicit Busy(Worker& worker) : worker_(worker) { worker_.busy_.store(depth() + 1, std::memory_order_relaxed); }
  ~Busy() {
    worker_.busy_.store(depth() - 1, std::memory_order_relaxed);
    worker_.heed_cancellation();
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  int depth() const { return worker_.busy_.load(std::memory_order_relaxed); }
  Worker& worker_;
};

// Instructions and floating-point operations executed, counted by instrumented kernels (checked mode: one worker).
extern uint64_t executed_steps, executed_flops;

}  // namespace deltamoe::sim
