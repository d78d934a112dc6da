// Eight float lanes of plain C++. See avx512/vec.h for the contract of each name.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace deltamoe::cpu {

struct Portable {
  static constexpr int lanes = 8;
  static constexpr int gemm_rows = 2;
  static constexpr int gemm_vectors = 2;
  static constexpr int tile = 4;
  struct F {
    float x[lanes];
  };
  struct Words {
    uint32_t x[lanes];
  };
  using Spread = int;  // words that share a scale

  template <class Op>
  static F map(Op op) {
    F r;
    for (int l = 0; l < lanes; ++l) {
      r.x[l] = op(l);
    }
    return r;
  }

  static F zero() { return set(0); }
  static F set(float x) {
    return map([&](int) { return x; });
  }
  static F load(const float* p) {
    return map([&](int l) { return p[l]; });
  }
  static void store(float* p, F x) { std::memcpy(p, x.x, sizeof(x.x)); }
  static F add(F a, F b) {
    return map([&](int l) { return a.x[l] + b.x[l]; });
  }
  static F sub(F a, F b) {
    return map([&](int l) { return a.x[l] - b.x[l]; });
  }
  static F mul(F a, F b) {
    return map([&](int l) { return a.x[l] * b.x[l]; });
  }
  static F div(F a, F b) {
    return map([&](int l) { return a.x[l] / b.x[l]; });
  }
  static F fma(F a, F b, F c) {
    return map([&](int l) { return a.x[l] * b.x[l] + c.x[l]; });
  }
  static F fnma(F a, F b, F c) {
    return map([&](int l) { return c.x[l] - a.x[l] * b.x[l]; });
  }
  static F min(F bound, F x) {
    return map([&](int l) { return x.x[l] > bound.x[l] ? bound.x[l] : x.x[l]; });
  }
  static F max(F bound, F x) {
    return map([&](int l) { return x.x[l] < bound.x[l] ? bound.x[l] : x.x[l]; });
  }
  static F round(F x) {
    return map([&](int l) { return std::nearbyint(x.x[l]); });
  }
  static F exp2i(F n) {
    return map([&](int l) { return bits_to_float((static_cast<uint32_t>(static_cast<int32_t>(n.x[l]) + 127)) << 23); });
  }
  static float sum(F x) {
    float s = 0;
    for (float v : x.x) {
      s += v;
    }
    return s;
  }

  static F load_bf16(const uint16_t* p) {
    return map([&](int l) { return bits_to_float(static_cast<uint32_t>(p[l]) << 16); });
  }
  static void store_bf16(uint16_t* p, F x) {
    for (int l = 0; l < lanes; ++l) {
      const uint32_t u = float_to_bits(x.x[l]);
      p[l] = static_cast<uint16_t>(x.x[l] == x.x[l] ? (u + 0x7fff + ((u >> 16) & 1)) >> 16 : 0x7fc0);
    }
  }
  static F load_f16(const uint16_t* p) {
    return map([&](int l) { return half_to_float(p[l]); });
  }
  static void store_f16(uint16_t* p, F x) {
    for (int l = 0; l < lanes; ++l) {
      p[l] = float_to_half(x.x[l]);
    }
  }

  static Words load_words(const void* p) {
    Words w;
    std::memcpy(w.x, p, sizeof(w.x));
    return w;
  }
  template <int Bits>
  static F code(Words w, int j) {
    return map([&](int l) {
      const auto code = static_cast<int32_t>((w.x[l] >> (j * Bits)) & ((1U << Bits) - 1));
      return static_cast<float>(code - (1 << (Bits - 1)));
    });
  }
  static Spread pattern(int words) { return words; }
  static F spread(const float* p, Spread words) {
    return map([&](int l) { return p[l / words]; });
  }

 private:
  static float bits_to_float(uint32_t u) {
    float f;
    std::memcpy(&f, &u, sizeof(f));
    return f;
  }
  static uint32_t float_to_bits(float f) {
    uint32_t u;
    std::memcpy(&u, &f, sizeof(u));
    return u;
  }
  // A half's exponent and mantissa, moved to a float's place, are off by 2^112: a multiplication mends it, subnormals
  // too.
  static float half_to_float(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
    const uint32_t rest = static_cast<uint32_t>(h & 0x7fff) << 13;
    if ((h & 0x7c00) == 0x7c00) {
      return bits_to_float(sign | 0x7f800000 | rest);
    }
    return bits_to_float(sign | float_to_bits(bits_to_float(rest) * 0x1p112F));
  }
  static uint16_t float_to_half(float f) {
    const uint32_t u = float_to_bits(f);
    const auto sign = static_cast<uint16_t>((u >> 16) & 0x8000);
    const float magnitude = std::fabs(f);
    if (!(magnitude == magnitude)) {
      return sign | 0x7e00;
    }
    if (magnitude >= 65520.0F) {
      return sign | 0x7c00;
    }
    if (magnitude < 0x1p-14F) {  // subnormal: a whole number of 2^-24
      return sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24F));
    }
    const uint32_t m = float_to_bits(magnitude);
    return sign | static_cast<uint16_t>((m + 0xfff + ((m >> 13) & 1) - (112U << 23)) >> 13);
  }
};

}  // namespace deltamoe::cpu
