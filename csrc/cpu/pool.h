// A small fork-join pool. One job at a time; the calling thread works too. Tasks are handed out one by one, so that a
// thread that the system takes away delays only its own task. What a task writes must not depend on who runs it: then
// results are the same, bit for bit, for any number of threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace deltamoe::cpu {

class Pool {
 public:
  static Pool& instance();

  int threads() const { return threads_; }
  // Waits for a running job. Throws std::invalid_argument if n < 1.
  void set_threads(int n);

  // Call body(i) for 0 <= i < n, in any order, on any thread. The first exception is rethrown here.
  template <class Body>
  void run(int64_t n, Body&& body) {
    run(n, [](void* context, int64_t i) { (*static_cast<std::remove_reference_t<Body>*>(context))(i); }, &body);
  }

 private:
  using Task = void (*)(void*, int64_t);

  Pool();
  ~Pool();
  void run(int64_t n, Task task, void* context);
  void work();
  void worker();
  void start(int n);
  void stop();

  // gate_ = epoch << 16 | open << 15 | workers inside. A worker may enter while the job is open; the caller closes it
  // when no task is left and waits only for those inside, so a sleeping worker never holds anybody up.
  static constexpr uint32_t kOpen = 1U << 15;
  static constexpr uint32_t kInside = kOpen - 1;
  alignas(64) std::atomic<uint32_t> gate_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  Task task_ = nullptr;
  void* context_ = nullptr;
  int64_t count_ = 0;
  std::exception_ptr error_;
  std::mutex error_mutex_;
  std::mutex job_mutex_;
  std::atomic<bool> stopping_{false};
  int threads_ = 1;
  std::vector<std::thread> workers_;
};

// Memory for one job, kept by the thread that asked for it: `take` hands out aligned pieces of one block, all given
// back when the Scratch goes. Threads that run tasks each have their own.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class T = float>
  T* take(size_t n) {
    return static_cast<T*>(bytes(n * sizeof(T)));
  }

 private:
  void* bytes(size_t n);
  size_t block_, used_;
};

}  // namespace deltamoe::cpu
