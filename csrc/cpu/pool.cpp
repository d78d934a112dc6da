#include "cpu/pool.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#endif

namespace deltamoe::cpu {

namespace {

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True while less than `budget` has gone by since the first call. Reads the clock only now and then.
class Spin {
 public:
  explicit Spin(std::chrono::microseconds budget) : budget_(budget) {}
  bool operator()() {
    pause();
    if (++turns_ % 64 != 0) {
      return true;
    }
    const auto now = std::chrono::steady_clock::now();
    if (turns_ == 64) {
      start_ = now;
    }
    return now - start_ < budget_;
  }

 private:
  std::chrono::microseconds budget_;
  std::chrono::steady_clock::time_point start_;
  uint32_t turns_ = 0;
};

// A sleeping worker takes over 20 us to wake: one that has just worked spins for about as long as MLX needs between two
// ops.
constexpr std::chrono::microseconds kSpin{100};

int usable_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    return std::max(1, CPU_COUNT(&set));
  }
#endif
  return std::max(1U, std::thread::hardware_concurrency());
}

int threads_wanted() {
  const char* text = std::getenv("DELTAMOE_THREADS");
  if (!text || !*text) {
    return usable_cores();
  }
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);
  if (*end || n < 1 || n > 4096) {
    throw std::invalid_argument("[deltamoe] DELTAMOE_THREADS is '" + std::string(text) +
                                "'. Expected a whole number from 1 to 4096; unset it to use all cores.");
  }
  return static_cast<int>(n);
}

}  // namespace

// Never destroyed: MLX's stream threads may outlive static objects.
Pool& Pool::instance() {
  static Pool* pool = new Pool;
  return *pool;
}

Pool::Pool() { start(threads_wanted()); }

Pool::~Pool() { stop(); }

void Pool::set_threads(int n) {
  if (n < 1) {
    throw std::invalid_argument("[deltamoe] the number of threads is " + std::to_string(n) + ". Expected at least 1.");
  }
  const std::lock_guard lock(job_mutex_);
  stop();
  start(n);
}

void Pool::start(int n) {
  threads_ = n;
  for (int i = 1; i < n; ++i) {
    workers_.emplace_back([this] { worker(); });
  }
}

void Pool::stop() {
  stopping_ = true;
  gate_.fetch_add(1U << 16);
  gate_.notify_all();
  for (std::thread& thread : workers_) {
    thread.join();
  }
  workers_.clear();
  stopping_ = false;
}

void Pool::run(int64_t n, Task task, void* context) {
  if (threads_ == 1 || n <= 1) {
    for (int64_t i = 0; i < n; ++i) {
      task(context, i);
    }
    return;
  }
  const std::lock_guard lock(job_mutex_);
  task_ = task;
  context_ = context;
  count_ = n;
  next_.store(0, std::memory_order_relaxed);
  const uint32_t epoch = (gate_.load(std::memory_order_relaxed) >> 16) + 1;
  gate_.store(epoch << 16 | kOpen, std::memory_order_release);
  gate_.notify_all();
  work();
  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (Spin spin(kSpin); (gate_.load(std::memory_order_acquire) & kInside) != 0;) {
    if (!spin()) {
      std::this_thread::yield();
    }
  }
  if (error_) {
    std::rethrow_exception(std::exchange(error_, nullptr));
  }
}

void Pool::work() {
  for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
    try {
      task_(context_, i);
    } catch (...) {
      next_.store(count_, std::memory_order_relaxed);
      const std::lock_guard lock(error_mutex_);
      if (!error_) {
        error_ = std::current_exception();
      }
    }
  }
}

void Pool::worker() {
  uint32_t seen = ~0U;
  while (true) {
    uint32_t gate = gate_.load(std::memory_order_acquire);
    for (Spin spin(kSpin); !stopping_ && (!(gate & kOpen) || gate >> 16 == seen);) {
      if (!spin()) {
        gate_.wait(gate, std::memory_order_acquire);
      }
      gate = gate_.load(std::memory_order_acquire);
    }
    if (stopping_) {
      return;
    }
    if (gate_.compare_exchange_strong(gate, gate + 1, std::memory_order_acq_rel)) {
      seen = gate >> 16;
      work();
      gate_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }
}

namespace {

constexpr size_t kAlign = 64;
constexpr size_t kHugePage = 2 << 20;

// Blocks that grow: a piece handed out never moves. Once all pieces are given back, many blocks become one.
struct Arena {
  struct Block {
    char* data;
    size_t size;
  };
  std::vector<Block> blocks;
  size_t block = 0;  // where the next piece comes from ...
  size_t used = 0;   // ... and how much of that block is taken

  ~Arena() { clear(); }

  void clear() {
    for (const Block& b : blocks) {
      std::free(b.data);
    }
    blocks.clear();
  }

  void grow(size_t size) {
    size = (size + kHugePage - 1) / kHugePage * kHugePage;
    auto* data = static_cast<char*>(std::aligned_alloc(kHugePage, size));
    if (!data) {
      throw std::bad_alloc();
    }
#if defined(__linux__)
    madvise(data, size, MADV_HUGEPAGE);  // 4K pages cost a tenth of the read bandwidth
#endif
    blocks.push_back({data, size});
  }

  void* take(size_t n) {
    n = (n + kAlign - 1) / kAlign * kAlign;
    while (block < blocks.size() && used + n > blocks[block].size) {
      ++block;
      used = 0;
    }
    if (block == blocks.size()) {
      grow(std::max(n, blocks.empty() ? size_t{0} : 2 * blocks.back().size));
    }
    void* piece = blocks[block].data + used;
    used += n;
    return piece;
  }

  void rewind(size_t to_block, size_t to_used) {
    block = to_block;
    used = to_used;
    if (block == 0 && used == 0 && blocks.size() > 1) {
      size_t total = 0;
      for (const Block& b : blocks) {
        total += b.size;
      }
      clear();
      grow(total);
    }
  }
};

Arena& arena() {
  thread_local Arena instance;
  return instance;
}

}  // namespace

Scratch::Scratch() : block_(arena().block), used_(arena().used) {}

Scratch::~Scratch() { arena().rewind(block_, used_); }

void* Scratch::bytes(size_t n) { return arena().take(n); }

}  // namespace deltamoe::cpu
