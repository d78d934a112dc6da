#include "cpu/limits.h"

#include <algorithm>
#include <atomic>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "cpu/pool.h"

namespace deltamoe::cpu {

namespace {

constexpr int kTurns = 10000;

// Chains that do not wait for each other: as many as hide the latency of a multiply-add and fit the registers. The
// empty asm keeps the compiler from working out the result.
#if defined(__x86_64__)
constexpr int kChains = 12;

__attribute__((target("avx512f"))) void chains_avx512() {
  const __m512 half = _mm512_set1_ps(0.5F);
  __m512 x[kChains];
  for (__m512& chain : x) {
    chain = half;
  }
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 16
    for (__m512& chain : x) {
      chain = _mm512_fmadd_ps(chain, half, half);
      asm volatile("" : "+v"(chain));
    }
  }
}

__attribute__((target("avx512f,avx512bf16"))) void chains_bf16() {
  const __m512bh half = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5F), _mm512_set1_ps(0.5F));
  __m512 x[kChains];
  for (__m512& chain : x) {
    chain = _mm512_setzero_ps();
  }
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 16
    for (__m512& chain : x) {
      chain = _mm512_dpbf16_ps(chain, half, half);
      asm volatile("" : "+v"(chain));
    }
  }
}

__attribute__((target("avx2,fma"))) void chains_avx2() {
  const __m256 half = _mm256_set1_ps(0.5F);
  __m256 x[kChains];
  for (__m256& chain : x) {
    chain = half;
  }
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 16
    for (__m256& chain : x) {
      chain = _mm256_fmadd_ps(chain, half, half);
      asm volatile("" : "+x"(chain));
    }
  }
}
#elif defined(__aarch64__)
constexpr int kChains = 20;

void chains_neon() {
  const float32x4_t half = vdupq_n_f32(0.5F);
  float32x4_t x[kChains];
  for (float32x4_t& chain : x) {
    chain = half;
  }
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 32
    for (float32x4_t& chain : x) {
      chain = vfmaq_f32(half, chain, half);
      asm volatile("" : "+w"(chain));
    }
  }
}
#endif

#if defined(__x86_64__) || defined(__aarch64__)
double run(int64_t tasks, void (*chains)(), int flops) {
  Pool::instance().run(tasks, [chains](int64_t) { chains(); });
  return static_cast<double>(tasks) * kTurns * kChains * flops;
}
#endif

}  // namespace

double multiply_f32([[maybe_unused]] int64_t tasks) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    return run(tasks, chains_avx512, 2 * 16);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return run(tasks, chains_avx2, 2 * 8);
  }
#elif defined(__aarch64__)
  return run(tasks, chains_neon, 2 * 4);
#endif
  return 0;
}

double multiply_bf16([[maybe_unused]] int64_t tasks) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16")) {
    return run(tasks, chains_bf16, 2 * 32);
  }
#endif
  return 0;
}

uint64_t read_all(const uint64_t* data, size_t words) {
  constexpr size_t kTask = (1 << 20) / sizeof(uint64_t);
  constexpr size_t kLine = 64 / sizeof(uint64_t);
  constexpr size_t kAhead = 4096 / sizeof(uint64_t);
  std::atomic<uint64_t> total{0};
  Pool::instance().run(static_cast<int64_t>((words + kTask - 1) / kTask), [&](int64_t task) {
    const size_t begin = static_cast<size_t>(task) * kTask;
    const size_t end = std::min(words, begin + kTask);
    uint64_t sums[kLine] = {};
    size_t i = begin;
    for (; i + kLine <= end; i += kLine) {
      __builtin_prefetch(data + i + kAhead, 0, 2);
      for (size_t j = 0; j < kLine; ++j) {
        sums[j] += data[i + j];
      }
    }
    uint64_t sum = 0;
    for (; i < end; ++i) {
      sum += data[i];
    }
    for (const uint64_t part : sums) {
      sum += part;
    }
    total.fetch_add(sum, std::memory_order_relaxed);
  });
  return total;
}

}  // namespace deltamoe::cpu
