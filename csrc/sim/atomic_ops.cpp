// `air.atomic.<space>.<operation>.<type>`: device memory is shared by threads that run at once, so these are real
// atomics.
#include <atomic>
#include <bit>
#include <cstdint>
#include <string>
#include <type_traits>

#include "sim/memory.h"
#include "sim/operations.h"
#include "sim/symbols.h"
#include "sim/worker.h"

namespace deltamoe::sim {
namespace {

template <class T>
T* checked(void* p, Memory::Access access, Site site) {
  if (Memory* memory = Worker::current()->memory(); memory != nullptr) {
    memory->check_alignment(p, sizeof(T), site);
    p = memory->check(p, sizeof(T), access, site);
  }
  return static_cast<T*>(p);
}

template <class T>
T load(void* p, uint32_t /*order*/, uint32_t /*scope*/, uint32_t /*is_volatile*/, Site site) {
  return std::atomic_ref<T>(*checked<T>(p, Memory::Access::atomic_load, site)).load(std::memory_order_relaxed);
}

template <class T>
void store(void* p, T value, uint32_t /*order*/, uint32_t /*scope*/, uint32_t /*is_volatile*/, Site site) {
  std::atomic_ref<T>(*checked<T>(p, Memory::Access::atomic_store, site)).store(value, std::memory_order_relaxed);
}

template <class T>
T exchange(void* p, T value, uint32_t /*order*/, uint32_t /*scope*/, uint32_t /*is_volatile*/, Site site) {
  return std::atomic_ref<T>(*checked<T>(p, Memory::Access::atomic_update, site))
      .exchange(value, std::memory_order_relaxed);
}

// Returns the old value: the caller sees by it whether the exchange took place.
template <class T>
T compare_exchange(void* p, void* expected, T desired, uint32_t /*order*/, uint32_t /*failure_order*/,
                   uint32_t /*scope*/, uint32_t /*is_volatile*/, Site site) {
  T old = *static_cast<T*>(expected);
  std::atomic_ref<T>(*checked<T>(p, Memory::Access::atomic_update, site))
      .compare_exchange_strong(old, desired, std::memory_order_relaxed);
  return old;
}

struct Sub {
  template <class T>
  static T apply(T a, T b) {
    return a - b;
  }
};
// T is the type computed in, U the one that crosses the boundary.
template <class Op, class T, class U>
U update(void* p, U value, uint32_t /*order*/, uint32_t /*scope*/, uint32_t /*is_volatile*/, Site site) {
  std::atomic_ref<U> cell(*checked<U>(p, Memory::Access::atomic_update, site));
  U old = cell.load(std::memory_order_relaxed);
  while (!cell.compare_exchange_weak(old, std::bit_cast<U>(Op::apply(std::bit_cast<T>(old), std::bit_cast<T>(value))),
                                     std::memory_order_relaxed)) {
  }
  return old;
}

void fence(uint32_t /*flags*/, uint32_t /*order*/, uint32_t /*scope*/, Site /*site*/) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

template <class T>
void add_plain(Symbols& s, const std::string& prefix, const std::string& type) {
  s[prefix + "load." + type] = reinterpret_cast<void*>(load<T>);
  s[prefix + "store." + type] = reinterpret_cast<void*>(store<T>);
  s[prefix + "xchg." + type] = reinterpret_cast<void*>(exchange<T>);
  s[prefix + "cmpxchg.weak." + type] = reinterpret_cast<void*>(compare_exchange<T>);
}

template <class T>
void add_updates(Symbols& s, const std::string& prefix, const std::string& type) {
  using U = std::make_unsigned_t<T>;
  const auto add = [&](const char* name, U (*f)(void*, U, uint32_t, uint32_t, uint32_t, Site)) {
    s[prefix + name + type] = reinterpret_cast<void*>(f);
  };
  // Sums wrap, so they are unsigned ones.
  add("add.", update<Sum, U, U>);
  add("sub.", update<Sub, U, U>);
  add("min.", update<Min, T, U>);
  add("max.", update<Max, T, U>);
  add("and.", update<And, U, U>);
  add("or.", update<Or, U, U>);
  add("xor.", update<Xor, U, U>);
}

}  // namespace

void add_atomic_ops(Symbols& s) {
  for (const std::string prefix : {"air.atomic.global.", "air.atomic.local."}) {
    add_plain<uint32_t>(s, prefix, "i32");
    add_plain<uint64_t>(s, prefix, "i64");
    add_plain<float>(s, prefix, "f32");
    add_updates<int32_t>(s, prefix, "s.i32");
    add_updates<uint32_t>(s, prefix, "u.i32");
    add_updates<int64_t>(s, prefix, "s.i64");
    add_updates<uint64_t>(s, prefix, "u.i64");
    s[prefix + "add.f32"] = reinterpret_cast<void*>(update<Sum, float, float>);
    s[prefix + "sub.f32"] = reinterpret_cast<void*>(update<Sub, float, float>);
  }
  s["air.atomic.fence"] = reinterpret_cast<void*>(fence);
}

}  // namespace deltamoe::sim
