// Products in bf16 (vdpbf16ps), exact: a 4-bit code is a bf16 number, an 8-bit code the sum of two (16 times the high
// half, and the low half), and an activation the sum of `Terms` of them. Sums are float.
//
// A vector of 16 words is 32 halfwords of four nibbles. Step j looks nibble j of each halfword up in a table of 16 bf16
// numbers. The table stands twice in its register, so that the lookup's fifth index bit does not matter and no mask is
// needed. x is packed as [vector][term][32 halfwords]: halfword h of vector i is x[h * vectors + i].
#pragma once

#include "cpu/avx512/vec.h"

namespace deltamoe::cpu {

struct Avx512Bf16 : Avx512 {};

template <int Bits, int Terms>
struct Bf16Dot {
  static constexpr int codes = 32 / Bits;
  static constexpr int block = codes * Avx512::lanes;
  static constexpr int steps = 4;
  static constexpr int vectors = 16 / Bits;
  static constexpr size_t block_bytes = size_t{2} * block * Terms;
  using Code = __m512bh;
  struct Activation {
    __m512bh term[Terms];
  };

  static void pack(const float* x, void* out) {
    __m512 rest[2 * vectors];
    for (int i = 0; i < 2 * vectors; ++i) {
      rest[i] = _mm512_loadu_ps(x + 16 * i);
    }
    for (int t = 0; t < Terms; ++t) {
      __m512i in_order[vectors];
      for (int i = 0; i < vectors; ++i) {
        in_order[i] = (__m512i)_mm512_cvtne2ps_pbh(rest[2 * i + 1], rest[2 * i]);
        rest[2 * i] = without(rest[2 * i], _mm512_castsi512_si256(in_order[i]));
        rest[2 * i + 1] = without(rest[2 * i + 1], _mm512_extracti64x4_epi64(in_order[i], 1));
      }
      for (int i = 0; i < vectors; ++i) {
        _mm512_storeu_si512(static_cast<char*>(out) + 64 * (i * Terms + t), every(in_order, i));
      }
    }
  }
  static Code decode(__m512i words, int j) {
    const Table& table = Bits == 4 ? kCentred : j % 2 == 0 ? kLow : kHigh;
    return (Code)_mm512_permutexvar_epi16(_mm512_srli_epi32(words, 4 * j), _mm512_loadu_si512(table));
  }
  static Activation activation(const void* x, int j) {
    const char* at = static_cast<const char*>(x) + (Bits == 4 ? j : j / 2) * 64 * Terms;
    Activation a;
    for (int t = 0; t < Terms; ++t) {
      a.term[t] = (__m512bh)_mm512_loadu_si512(at + 64 * t);
    }
    return a;
  }
  static __m512 mac(__m512 part, Code c, const Activation& x) {
    for (int t = 0; t < Terms; ++t) {
      part = _mm512_dpbf16_ps(part, c, x.term[t]);
    }
    return part;
  }

 private:
  // x less its leading term; nothing is left of an infinity.
  static __m512 without(__m512 x, __m256i term) {
    const __m512 t = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(term), 16));
    const __mmask16 finite = _mm512_cmp_ps_mask(_mm512_abs_ps(t), _mm512_set1_ps(__builtin_inff()), _CMP_LT_OQ);
    return _mm512_maskz_sub_ps(finite, x, t);
  }
  // Elements i, i + vectors, i + 2 vectors, ... of x.
  static __m512i every(const __m512i* x, int i) {
    alignas(64) uint16_t index[32];
    for (int h = 0; h < 32; ++h) {
      index[h] = static_cast<uint16_t>((h * vectors + i) % 64);
    }
    const __m512i at = _mm512_load_si512(index);
    const __m512i low = _mm512_permutex2var_epi16(x[0], at, x[1]);
    if constexpr (vectors == 2) {
      return low;
    } else {
      const __m512i high = _mm512_permutex2var_epi16(x[2], at, x[3]);
      return _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1);
    }
  }
  using Table = uint16_t[32];
  static constexpr Table kCentred = {// -8, -7, ..., 7 as bf16
                                     0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80,
                                     0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0,
                                     0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80,
                                     0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};
  static constexpr Table kLow = {// 0, 1, ..., 15
                                 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120,
                                 0x4130, 0x4140, 0x4150, 0x4160, 0x4170, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0,
                                 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170};
  static constexpr Table kHigh = {// -128, -112, ..., 112
                                  0xc300, 0xc2e0, 0xc2c0, 0xc2a0, 0xc280, 0xc240, 0xc200, 0xc180,
                                  0x0000, 0x4180, 0x4200, 0x4240, 0x4280, 0x42a0, 0x42c0, 0x42e0,
                                  0xc300, 0xc2e0, 0xc2c0, 0xc2a0, 0xc280, 0xc240, 0xc200, 0xc180,
                                  0x0000, 0x4180, 0x4200, 0x4240, 0x4280, 0x42a0, 0x42c0, 0x42e0};
};

}  // namespace deltamoe::cpu
