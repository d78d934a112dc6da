// The operations of two numbers that SIMD-group functions and atomics know. Integers wrap.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace deltamoe::sim {

struct Sum {
  template <class V>
  static V identity() {
    return V(0);
  }
  template <class V>
  static V apply(V a, V b) {
    if constexpr (std::is_integral_v<V>) {  // wraps
      using U = std::make_unsigned_t<V>;
      return static_cast<V>(static_cast<U>(a) + static_cast<U>(b));
    } else {
      return a + b;
    }
  }
};

struct Product {
  template <class V>
  static V identity() {
    return V(1);
  }
  template <class V>
  static V apply(V a, V b) {
    if constexpr (std::is_integral_v<V>) {  // wraps; in 64 bits, since 16-bit factors would become int
      return static_cast<V>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
    } else {
      return a * b;
    }
  }
};

struct Min {
  template <class V>
  static V apply(V a, V b) {
    if constexpr (std::is_floating_point_v<V>) {
      return std::fmin(a, b);
    } else {
      return std::min(a, b);
    }
  }
};

struct Max {
  template <class V>
  static V apply(V a, V b) {
    if constexpr (std::is_floating_point_v<V>) {
      return std::fmax(a, b);
    } else {
      return std::max(a, b);
    }
  }
};

struct And {
  template <class V>
  static V apply(V a, V b) {
    return a & b;
  }
};

struct Or {
  template <class V>
  static V apply(V a, V b) {
    return a | b;
  }
};

struct Xor {
  template <class V>
  static V apply(V a, V b) {
    return a ^ b;
  }
};

}  // namespace deltamoe::sim
