#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace deltamoe::cpu {

// While one lives, this thread's results below the smallest normal float are 0. Some processors are slow at each
// operation that gives such a result, and fast forgetting leaves many of them.
class NoDenormals {
 public:
  NoDenormals() : before_(control()) { set(before_ | kFlush); }
  ~NoDenormals() { set(before_); }
  NoDenormals(const NoDenormals&) = delete;
  NoDenormals& operator=(const NoDenormals&) = delete;

 private:
#if defined(__x86_64__)
  // MXCSR.FTZ. Not DAZ: the portable kernels read a half by way of denormals.
  static constexpr uint64_t kFlush = 1 << 15;
  static uint64_t control() { return _mm_getcsr(); }
  static void set(uint64_t value) { _mm_setcsr(static_cast<unsigned>(value)); }
#elif defined(__aarch64__)
  // FPCR.FZ
  static constexpr uint64_t kFlush = 1 << 24;
  static uint64_t control() {
    uint64_t value = 0;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void set(uint64_t value) { asm volatile("msr fpcr, %0" : : "r"(value)); }
#else
  static constexpr uint64_t kFlush = 0;
  static uint64_t control() { return 0; }
  static void set(uint64_t) {}
#endif

  uint64_t before_;
};

}  // namespace deltamoe::cpu
