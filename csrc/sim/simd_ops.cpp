#include "sim/simd_ops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "sim/float16.h"
#include "sim/operations.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace deltamoe::sim {
namespace {

// ---- types: how a lane's 64 bits hold a T, and in what type it is computed
// ---------------------------------------------

struct Half {};
struct Bfloat {};

template <class T>
struct Bits {
  using Value = T;
  static T load(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
  static uint64_t store(T value) {
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
  }
};

template <>
struct Bits<Half> {
  using Value = float;
  static float load(uint64_t bits) { return half_to_float(static_cast<uint16_t>(bits)); }
  static uint64_t store(float value) { return float_to_half(value); }
};

template <>
struct Bits<Bfloat> {
  using Value = float;
  static float load(uint64_t bits) { return bfloat_to_float(static_cast<uint16_t>(bits)); }
  static uint64_t store(float value) { return float_to_bfloat(value); }
};

// The C type in which a T crosses the boundary to compiled kernels.
template <class T>
using Abi = std::conditional_t<std::is_same_v<T, float>, float, std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>>;

template <class T>
uint64_t from_abi(Abi<T> value) {
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<uint32_t>(value);
  } else {
    return value;
  }
}

template <class T>
Abi<T> to_abi(uint64_t bits) {
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<float>(static_cast<uint32_t>(bits));
  } else {
    return static_cast<Abi<T>>(bits);
  }
}

template <class F>
void for_each(uint32_t active, F&& f) {
  for (; active != 0; active &= active - 1) {
    f(static_cast<uint32_t>(std::countr_zero(active)));
  }
}

// ---- reductions and scans
// --------------------------------------------------------------------------------------------

template <class Op, class T>
uint64_t combine_two(uint64_t a, uint64_t b) {
  return Bits<T>::store(Op::apply(Bits<T>::load(a), Bits<T>::load(b)));
}

// All lanes: neighbours first, then pairs of pairs, as by five shuffles with xor. Some lanes: in ascending order. Metal
// leaves the order open.
template <class Op, class T>
void reduce(Worker&, SimdGroup& group, uint32_t active) {
  if (active == ~0u) {
    std::array<uint64_t, kSimdWidth> x = group.value;
    for (uint32_t n = kSimdWidth / 2; n > 0; n /= 2) {
      for (uint32_t i = 0; i < n; i++) {
        x[i] = combine_two<Op, T>(x[2 * i], x[2 * i + 1]);
      }
    }
    group.value.fill(x[0]);
    return;
  }
  uint64_t result = group.value[std::countr_zero(active)];
  for_each(active & (active - 1), [&](uint32_t i) { result = combine_two<Op, T>(result, group.value[i]); });
  for_each(active, [&](uint32_t i) { group.value[i] = result; });
}

template <class Op, class T>
void quad_reduce(Worker&, SimdGroup& group, uint32_t active) {
  for (uint32_t quad = 0; quad < kSimdWidth; quad += 4) {
    const uint32_t here = active & (0xfu << quad);
    if (here == 0xfu << quad) {
      const uint64_t low = combine_two<Op, T>(group.value[quad], group.value[quad + 1]);
      const uint64_t high = combine_two<Op, T>(group.value[quad + 2], group.value[quad + 3]);
      const uint64_t all = combine_two<Op, T>(low, high);
      for_each(here, [&](uint32_t i) { group.value[i] = all; });
    } else if (here != 0) {
      uint64_t result = group.value[std::countr_zero(here)];
      for_each(here & (here - 1), [&](uint32_t i) { result = combine_two<Op, T>(result, group.value[i]); });
      for_each(here, [&](uint32_t i) { group.value[i] = result; });
    }
  }
}

template <class Op, class T, bool kInclusive>
void scan(Worker&, SimdGroup& group, uint32_t active) {
  uint64_t running = Bits<T>::store(Op::template identity<typename Bits<T>::Value>());
  for_each(active, [&](uint32_t i) {
    const uint64_t next = combine_two<Op, T>(running, group.value[i]);
    group.value[i] = kInclusive ? next : running;
    running = next;
  });
}

// ---- permutations
// ------------------------------------------------------------------------------------------------------

constexpr uint32_t kPoisonBits = 0xffffffffu;

// Lane i takes the value of lane source(i, argument). A lane that is out of range or inactive has none to give.
template <class Source>
void permute(Worker& worker, SimdGroup& group, uint32_t active, Source&& source) {
  const std::array<uint64_t, kSimdWidth> x = group.value;
  for_each(active, [&](uint32_t i) {
    const uint32_t from = source(i, group.argument[i]);
    if (from < kSimdWidth && (active >> from & 1) != 0) {
      group.value[i] = x[from];
      return;
    }
    group.value[i] = kPoisonBits;
    worker.report(Kind::shuffle_from_inactive_lane, worker.lane().site,
                  "lane " + std::to_string(i) + " reads lane " + std::to_string(from) +
                      (from < kSimdWidth ? ", which is not active" : ", which does not exist"));
  });
}

void shuffle(Worker& w, SimdGroup& g, uint32_t active) {
  permute(w, g, active, [](uint32_t, uint32_t lane) { return lane; });
}
void shuffle_up(Worker& w, SimdGroup& g, uint32_t active) {
  permute(w, g, active, [](uint32_t i, uint32_t delta) { return i >= delta ? i - delta : i; });
}
void shuffle_down(Worker& w, SimdGroup& g, uint32_t active) {
  permute(w, g, active, [](uint32_t i, uint32_t delta) { return i + delta < kSimdWidth ? i + delta : i; });
}
void shuffle_xor(Worker& w, SimdGroup& g, uint32_t active) {
  permute(w, g, active, [](uint32_t i, uint32_t mask) { return i ^ mask; });
}
void rotate_up(Worker& w, SimdGroup& g, uint32_t active) {
  permute(w, g, active, [](uint32_t i, uint32_t delta) { return (i - delta) % kSimdWidth; });
}
void rotate_down(Worker& w, SimdGroup& g, uint32_t active) {
  permute(w, g, active, [](uint32_t i, uint32_t delta) { return (i + delta) % kSimdWidth; });
}
void broadcast_first(Worker&, SimdGroup& g, uint32_t active) {
  const uint64_t first = g.value[std::countr_zero(active)];
  for_each(active, [&](uint32_t i) { g.value[i] = first; });
}
void quad_shuffle(Worker& w, SimdGroup& g, uint32_t active) {
  permute(w, g, active, [](uint32_t i, uint32_t lane) { return lane < 4 ? i / 4 * 4 + lane : kSimdWidth; });
}
void quad_shuffle_up(Worker& w, SimdGroup& g, uint32_t active) {
  permute(w, g, active, [](uint32_t i, uint32_t delta) { return i % 4 >= delta ? i - delta : i; });
}
void quad_shuffle_down(Worker& w, SimdGroup& g, uint32_t active) {
  permute(w, g, active, [](uint32_t i, uint32_t delta) { return i % 4 + delta < 4 ? i + delta : i; });
}
void quad_shuffle_xor(Worker& w, SimdGroup& g, uint32_t active) {
  permute(w, g, active, [](uint32_t i, uint32_t mask) { return mask < 4 ? i ^ mask : kSimdWidth; });
}

// simd_shuffle_and_fill_up / _down: within segments of `modulo` lanes; what would come from beyond the segment's end
// comes from the fill values, shifted likewise.
template <bool kUp>
void shuffle_and_fill(Worker& worker, SimdGroup& group, uint32_t active) {
  const std::array<uint64_t, kSimdWidth> x = group.value;
  for_each(active, [&](uint32_t i) {
    const uint32_t segment = std::clamp(group.modulo[i], 1u, kSimdWidth), start = i / segment * segment;
    const int delta = static_cast<int>(group.argument[i] % (segment + 1));
    const int within = static_cast<int>(i - start) + (kUp ? -delta : delta);
    const int size = static_cast<int>(segment);
    const bool filled = within < 0 || within >= size;
    const uint32_t from = start + static_cast<uint32_t>((within % size + size) % size);
    if ((active >> from & 1) == 0) {
      worker.report(Kind::shuffle_from_inactive_lane, worker.lane().site,
                    "lane " + std::to_string(i) + " reads lane " + std::to_string(from) + ", which is not active");
    }
    group.value[i] = filled ? group.fill[from] : x[from];
  });
}

// ---- votes
// ---------------------------------------------------------------------------------------------------------------

uint32_t votes(const SimdGroup& group, uint32_t active) {
  uint32_t mask = 0;
  for_each(active, [&](uint32_t i) { mask |= static_cast<uint32_t>(group.value[i] & 1) << i; });
  return mask;
}
void any(Worker&, SimdGroup& group, uint32_t active) {
  const uint64_t result = votes(group, active) != 0 ? 1 : 0;
  for_each(active, [&](uint32_t i) { group.value[i] = result; });
}
void all(Worker&, SimdGroup& group, uint32_t active) {
  const uint64_t result = votes(group, active) == active ? 1 : 0;
  for_each(active, [&](uint32_t i) { group.value[i] = result; });
}
void ballot(Worker&, SimdGroup& group, uint32_t active) {
  const uint64_t result = votes(group, active);
  for_each(active, [&](uint32_t i) { group.value[i] = result; });
}
void active_mask(Worker&, SimdGroup& group, uint32_t active) {
  for_each(active, [&](uint32_t i) { group.value[i] = active; });
}
void is_first(Worker&, SimdGroup& group, uint32_t active) {
  for_each(active, [&](uint32_t i) { group.value[i] = (active & ((1u << i) - 1)) == 0 ? 1 : 0; });
}
void is_uniform(Worker&, SimdGroup& group, uint32_t active) {
  const uint64_t first = group.value[std::countr_zero(active)];
  bool uniform = true;
  for_each(active, [&](uint32_t i) { uniform = uniform && group.value[i] == first; });
  for_each(active, [&](uint32_t i) { group.value[i] = uniform ? 1 : 0; });
}

// ---- barrier and matrices
// ------------------------------------------------------------------------------------------------

void simd_barrier(Worker& worker, SimdGroup& group, uint32_t active) {
  worker.note_simd_barrier(group, group.argument[std::countr_zero(active)]);
}

// c += a b, each step one fused multiply-add.
void multiply_portable(const float* a, const float* b, float* c) {
  for (int row = 0; row < 8; row++) {
    for (int k = 0; k < 8; k++) {
      for (int column = 0; column < 8; column++) {
        c[row * 8 + column] = std::fma(a[row * 8 + k], b[k * 8 + column], c[row * 8 + column]);
      }
    }
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void multiply_avx2(const float* a, const float* b, float* c) {
  __m256 rows[8];
  for (int row = 0; row < 8; row++) {
    rows[row] = _mm256_loadu_ps(c + row * 8);
  }
  for (int k = 0; k < 8; k++) {
    const __m256 bk = _mm256_loadu_ps(b + k * 8);
    for (int row = 0; row < 8; row++) {
      rows[row] = _mm256_fmadd_ps(_mm256_set1_ps(a[row * 8 + k]), bk, rows[row]);
    }
  }
  for (int row = 0; row < 8; row++) {
    _mm256_storeu_ps(c + row * 8, rows[row]);
  }
}

auto choose_multiply() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 ? multiply_avx2 : multiply_portable;
}
#else
auto choose_multiply() { return multiply_portable; }
#endif

void multiply_accumulate(Worker& worker, SimdGroup& group, uint32_t active) {
  static const auto multiply = choose_multiply();
  worker.note_matrix_op();
  if (active == ~0u) {
    multiply(group.a.data(), group.b.data(), group.c.data());
  } else {
    group.c.fill(std::bit_cast<float>(kPoisonBits));  // Metal says nothing of what it would be
  }
  for_each(active, [&](uint32_t i) { memcpy(&group.value[i], &group.c[matrix_index(i)], sizeof(double)); });
}

// ---- the functions that compiled kernels call
// ------------------------------------------------------------------------------

// Operations that Metal defines for whatever lanes are active.
template <Combine op, class T>
Abi<T> unary(Abi<T> value, Site site) {
  return to_abi<T>(Worker::current()->rendezvous(op, from_abi<T>(value), 0, 0, 0, site));
}

template <Combine op, class T>
Abi<T> with_lane(Abi<T> value, uint32_t argument, Site site) {
  return to_abi<T>(Worker::current()->rendezvous(op, from_abi<T>(value), 0, argument & 0xffffu, 0, site));
}

template <Combine op, class T>
Abi<T> with_fill(Abi<T> value, Abi<T> fill, uint32_t delta, uint32_t modulo, Site site) {
  return to_abi<T>(Worker::current()->rendezvous(op, from_abi<T>(value), from_abi<T>(fill), delta & 0xffffu,
                                                 modulo & 0xffffu, site));
}

template <Combine op>
uint32_t vote(uint32_t predicate, Site site) {
  return static_cast<uint32_t>(Worker::current()->rendezvous(op, predicate & 1, 0, 0, 0, site));
}

template <class T>
uint32_t uniform(Abi<T> value, Site site) {
  uint64_t bits = from_abi<T>(value);
  if constexpr (sizeof(T) < 8) {
    bits &= (uint64_t{1} << (8 * sizeof(T))) - 1;
  }
  return static_cast<uint32_t>(Worker::current()->rendezvous(is_uniform, bits, 0, 0, 0, site));
}

uint32_t uniform_bool(uint32_t value, Site site) { return vote<is_uniform>(value, site); }

uint64_t ballot_of(uint32_t predicate, Site site) {
  return Worker::current()->rendezvous(ballot, predicate & 1, 0, 0, 0, site);
}

template <Combine op>
uint64_t without_operand(Site site) {
  return Worker::current()->rendezvous(op, 0, 0, 0, 0, site);
}

uint32_t first_of_active(Site site) { return static_cast<uint32_t>(without_operand<is_first>(site)); }

void threadgroup_barrier(uint32_t flags, uint32_t /*scope*/, Site site) { Worker::current()->barrier(flags, site); }

void simdgroup_barrier(uint32_t flags, uint32_t /*scope*/, Site site) {
  Worker::current()->rendezvous(simd_barrier, 0, 0, flags, 0, site);
}

double matrix_multiply_accumulate(double a, double b, double c, Site site) {
  return Worker::current()->multiply_accumulate(a, b, c, site);
}

uint32_t simdgroup_size() { return kSimdWidth; }

uint32_t lane_index() { return Worker::current()->lane().index; }

template <class F>
void* address(F* function) {
  return reinterpret_cast<void*>(function);
}

template <class T>
void add_for_type(Symbols& s, const std::string& type) {
  const auto add = [&](const char* name, auto* function) {
    s["air." + std::string(name) + "." + type] = address(function);
  };
  add("simd_sum", unary<reduce<Sum, T>, T>);
  add("simd_product", unary<reduce<Product, T>, T>);
  add("simd_min", unary<reduce<Min, T>, T>);
  add("simd_max", unary<reduce<Max, T>, T>);
  add("simd_prefix_inclusive_sum", unary<scan<Sum, T, true>, T>);
  add("simd_prefix_exclusive_sum", unary<scan<Sum, T, false>, T>);
  add("simd_prefix_inclusive_product", unary<scan<Product, T, true>, T>);
  add("simd_prefix_exclusive_product", unary<scan<Product, T, false>, T>);
  add("simd_broadcast_first", unary<broadcast_first, T>);
  add("simd_shuffle", with_lane<shuffle, T>);
  add("simd_shuffle_up", with_lane<shuffle_up, T>);
  add("simd_shuffle_down", with_lane<shuffle_down, T>);
  add("simd_shuffle_xor", with_lane<shuffle_xor, T>);
  add("simd_shuffle_rotate_up", with_lane<rotate_up, T>);
  add("simd_shuffle_rotate_down", with_lane<rotate_down, T>);
  add("simd_broadcast", with_lane<shuffle, T>);
  add("simd_shuffle_and_fill_up", with_fill<shuffle_and_fill<true>, T>);
  add("simd_shuffle_and_fill_down", with_fill<shuffle_and_fill<false>, T>);
  add("quad_sum", unary<quad_reduce<Sum, T>, T>);
  add("quad_product", unary<quad_reduce<Product, T>, T>);
  add("quad_min", unary<quad_reduce<Min, T>, T>);
  add("quad_max", unary<quad_reduce<Max, T>, T>);
  add("quad_shuffle", with_lane<quad_shuffle, T>);
  add("quad_broadcast", with_lane<quad_shuffle, T>);
  add("quad_shuffle_up", with_lane<quad_shuffle_up, T>);
  add("quad_shuffle_down", with_lane<quad_shuffle_down, T>);
  add("quad_shuffle_xor", with_lane<quad_shuffle_xor, T>);
  if constexpr (std::is_integral_v<T>) {
    add("simd_and", unary<reduce<And, T>, T>);
    add("simd_or", unary<reduce<Or, T>, T>);
    add("simd_xor", unary<reduce<Xor, T>, T>);
  }
}

}  // namespace

Combine multiply_accumulate_op() { return multiply_accumulate; }

bool is_simd_barrier(Combine op) { return op == simd_barrier; }

bool is_simd_op(Combine op) { return op != simd_barrier && op != is_uniform; }

bool minds_inactive_lanes(Combine op, uint32_t active) {
  for (const Combine fine : {any, all, ballot, active_mask, is_first, is_uniform, broadcast_first}) {
    if (op == fine) {
      return false;
    }
  }
  for (const Combine quad : {quad_shuffle, quad_shuffle_up, quad_shuffle_down, quad_shuffle_xor}) {
    if (op == quad) {
      const uint32_t some = (active | active >> 1 | active >> 2 | active >> 3) & 0x11111111u;
      return active != some * 0xfu;
    }
  }
  return true;
}

void add_simd_ops(Symbols& s) {
  add_for_type<float>(s, "f32");
  add_for_type<Half>(s, "f16");
  add_for_type<Bfloat>(s, "bf16");
  add_for_type<int8_t>(s, "s.i8");
  add_for_type<uint8_t>(s, "u.i8");
  add_for_type<int16_t>(s, "s.i16");
  add_for_type<uint16_t>(s, "u.i16");
  add_for_type<int32_t>(s, "s.i32");
  add_for_type<uint32_t>(s, "u.i32");
  add_for_type<int64_t>(s, "s.i64");
  add_for_type<uint64_t>(s, "u.i64");
  s["air.simd_any"] = address(vote<any>);
  s["air.simd_all"] = address(vote<all>);
  s["air.simd_ballot.i64"] = address(ballot_of);
  s["air.simd_active_threads_mask.i64"] = address(without_operand<active_mask>);
  s["air.simd_is_first"] = address(first_of_active);
  s["air.is_uniform.i1"] = address(uniform_bool);
  s["air.is_uniform.i8"] = address(uniform<uint8_t>);
  s["air.is_uniform.i16"] = address(uniform<uint16_t>);
  s["air.is_uniform.i32"] = address(uniform<uint32_t>);
  s["air.is_uniform.i64"] = address(uniform<uint64_t>);
  s["air.wg.barrier"] = address(threadgroup_barrier);
  s["air.simdgroup.barrier"] = address(simdgroup_barrier);
  s["sim.matrix_multiply_accumulate"] = address(matrix_multiply_accumulate);
  s["air.get_simdgroup_size.i16"] = address(simdgroup_size);
  s["air.get_thread_index_in_simdgroup.i16"] = address(lane_index);
}

}  // namespace deltamoe::sim
