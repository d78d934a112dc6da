#include "sim/dispatch.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "sim/signals.h"
#include "sim/symbols.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace deltamoe::sim {
namespace {

constexpr size_t kGap = size_t{64} << 20;  // bytes out of reach on either side of a buffer

// Apple's GPUs flush denormal floats to zero; so do the threads that run kernels.
void flush_denormals() {
#if defined(__x86_64__)
  _mm_setcsr(_mm_getcsr() | 0x8040);
#elif defined(__aarch64__)
  uint64_t fpcr = 0;
  asm volatile("mrs %0, fpcr" : "=r"(fpcr));
  asm volatile("msr fpcr, %0" ::"r"(fpcr | (uint64_t{1} << 24)));
#endif
}

// A buffer's copy, its end against memory that faults. Its start is a multiple of 16 bytes.
class Staged {
 public:
  explicit Staged(const Buffer& buffer)
      : size_(buffer.size),
        pages_(2 * kGap + (buffer.size + Pages::kPage - 1) / Pages::kPage * Pages::kPage),
        data_(pages_.data() + pages_.size() - kGap - (buffer.size + 15) / 16 * 16) {
    pages_.forbid(0, kGap);
    pages_.forbid(pages_.size() - kGap, kGap);
    if (size_ != 0) {
      memcpy(data_, buffer.data, size_);
    }
  }
  char* data() const { return data_; }
  void copy_back(const Buffer& buffer) const {
    if (!buffer.read_only && size_ != 0) {
      memcpy(buffer.data, data_, size_);
    }
  }

 private:
  size_t size_;
  Pages pages_;
  char* data_;
};

// The work of all workers of one dispatch.
class Team {
 public:
  Team(const Dispatch& dispatch, Memory* memory, std::vector<std::unique_ptr<Worker>>& workers)
      : launch_(dispatch.launch), memory_(memory), workers_(workers) {
    for (const uint32_t n : launch_.threadgroups) {
      total_ *= n;
    }
  }

  // Runs to the end, or until the time is up or the caller gives up; false in the latter case.
  bool run(unsigned count, double timeout, const std::function<bool()>& interrupted) {
    std::vector<std::thread> threads;
    threads.reserve(count);
    running_ = count;
    for (unsigned i = 0; i < count; i++) {
      threads.emplace_back([this, i] { work(*workers_[i]); });
    }
    const bool finished = wait(threads, timeout, interrupted);
    for (std::thread& thread : threads) {
      thread.join();
    }
    return finished;
  }

 private:
  void work(Worker& worker) {
    const SignalStack signal_stack;
    flush_denormals();
    worker.begin(launch_, memory_);
    for (uint64_t i = next_++; i < total_; i = next_++) {
      const auto [nx, ny, nz] = launch_.threadgroups;
      if (!worker.run({static_cast<uint32_t>(i % nx), static_cast<uint32_t>(i / nx % ny),
                       static_cast<uint32_t>(i / nx / ny)})) {
        next_ = total_;  // the others stop at their next threadgroup
      }
    }
    if (memory_ != nullptr) {
      memory_->add_counters(worker.counters());
    }
    worker.end();
    const std::lock_guard lock(mutex_);
    running_--;
    done_.notify_all();
  }

  bool wait(std::vector<std::thread>& threads, double timeout, const std::function<bool()>& interrupted) {
    const auto start = std::chrono::steady_clock::now();
    const char* stop = nullptr;
    bool is_interrupted = false;
    std::unique_lock lock(mutex_);
    while (!done_.wait_for(lock, std::chrono::milliseconds(stop == nullptr ? 50 : 5), [&] { return running_ == 0; })) {
      lock.unlock();
      if (!is_interrupted && interrupted()) {
        is_interrupted = true;
        stop = "interrupted";
      }
      if (stop == nullptr &&
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > timeout) {
        stop = "it did not end in time: it spins, or needs a longer timeout";
      }
      if (stop != nullptr) {
        // Until they have heard: one in the scheduler only takes note.
        next_ = total_;
        for (std::thread& thread : threads) {
          cancel(thread.native_handle(), stop);
        }
      }
      lock.lock();
    }
    return !is_interrupted;
  }

  const Launch& launch_;
  Memory* memory_;
  std::vector<std::unique_ptr<Worker>>& workers_;
  uint64_t total_ = 1;
  std::atomic<uint64_t> next_ = 0;
  std::mutex mutex_;
  std::condition_variable done_;
  unsigned running_ = 0;
};

void gather(Outcome& outcome, Worker& worker) {
  if (outcome.fault.empty() && !worker.fault().empty()) {
    const Lane& lane = worker.lane();
    outcome.fault = worker.fault();
    outcome.site = lane.site;
    outcome.threadgroup = worker.threadgroup();
    outcome.simdgroup = lane.group->index;
    outcome.lane = lane.index;
  }
  for (Report& report : worker.reports()) {
    auto same = std::find_if(outcome.reports.begin(), outcome.reports.end(),
                             [&](const Report& r) { return r.kind == report.kind && r.site == report.site; });
    if (same != outcome.reports.end()) {
      same->count += report.count;
    } else {
      outcome.reports.push_back(std::move(report));
    }
  }
  const Counters& c = worker.counters();
  const uint64_t threadgroup_memory = std::max(outcome.counters.threadgroup_memory, c.threadgroup_memory);
  Counters sum = outcome.counters;
  if (c.lane_steps != 0) {
    sum = c;  // checked mode has one worker
  } else {
    sum.barriers += c.barriers;
    sum.simd_ops += c.simd_ops;
    sum.matrix_ops += c.matrix_ops;
  }
  sum.threadgroup_memory = threadgroup_memory;
  outcome.counters = sum;
}

}  // namespace

Outcome run(Dispatch& dispatch, const std::function<bool()>& interrupted) {
  static std::mutex one_at_a_time;
  static std::vector<std::unique_ptr<Worker>> workers;
  const std::lock_guard lock(one_at_a_time);

  std::vector<Staged> staged;
  std::vector<Region> regions;
  staged.reserve(dispatch.buffers.size());
  for (const Buffer& buffer : dispatch.buffers) {
    staged.emplace_back(buffer);
    regions.push_back(
        {buffer.name, staged.back().data(), buffer.size, buffer.read_only, buffer.granule, buffer.written});
  }
  for (const Binding& binding : dispatch.bindings) {
    dispatch.launch.buffers.at(binding.index) = staged.at(binding.buffer).data() + binding.offset;
  }

  uint64_t groups = 1;
  for (const uint32_t n : dispatch.launch.threadgroups) {
    groups *= n;
  }
  const auto count =
      static_cast<unsigned>(dispatch.checked ? 1 : std::clamp<uint64_t>(groups, 1, std::max(dispatch.workers, 1U)));
  while (workers.size() < count) {
    workers.push_back(std::make_unique<Worker>());
  }
  std::unique_ptr<Memory> memory;
  if (dispatch.checked) {
    memory = std::make_unique<Memory>(*workers[0], regions);
    executed_steps = executed_flops = 0;
  }

  Outcome outcome;
  const auto start = std::chrono::steady_clock::now();
  {
    const FaultHandlers handlers;
    Team team(dispatch, memory.get(), workers);
    team.run(count, dispatch.timeout, interrupted);
  }
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (unsigned i = 0; i < count; i++) {
    gather(outcome, *workers[i]);
  }
  if (memory != nullptr) {
    outcome.traffic = memory->traffic();
  }
  outcome.counters.flops = executed_flops + 1024 * outcome.counters.matrix_ops;
  if (outcome.fault.empty()) {
    for (size_t i = 0; i < staged.size(); i++) {
      staged[i].copy_back(dispatch.buffers[i]);
    }
  }
  return outcome;
}

Symbols all_symbols() {
  Symbols symbols;
  add_simd_ops(symbols);
  add_math_ops(symbols);
  add_atomic_ops(symbols);
  add_memory_hooks(symbols);
  return symbols;
}

}  // namespace deltamoe::sim
