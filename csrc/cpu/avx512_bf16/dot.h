// Products in bf16 (vdpbf16ps), exact: a 4-bit code is a bf16 number, an 8-bit code the sum of two (16 times the high half,
// and the low half), and an activation the sum of `Terms` bf16 numbers (1 for bf16, 2 for f16, 3 for f32). Sums are float.
//
// A vector of 16 words is 32 halfwords of four nibbles. Step j looks nibble j of each halfword up in a table of 16 bf16
// numbers. The table stands twice in its register, so that the lookup's fifth index bit does not matter and no mask is
// needed. x is packed as [term][vector][32 halfwords]: halfword h of vector i is x[h * vectors + i].
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

  static void pack(const float* x, void* out) {
    auto* o = static_cast<char*>(out);
    __m512 rest[2 * vectors];
    for (int i = 0; i < 2 * vectors; ++i) {
      rest[i] = _mm512_loadu_ps(x + 16 * i);
    }
    for (int t = 0; t < Terms; ++t) {
      __m512i term[vectors];  // in order of k
      for (int i = 0; i < vectors; ++i) {
        const __m512bh pair = _mm512_cvtne2ps_pbh(rest[2 * i + 1], rest[2 * i]);
        term[i] = (__m512i)pair;
        if (t + 1 < Terms) {
          rest[2 * i] = without(rest[2 * i], _mm512_castsi512_si256(term[i]));
          rest[2 * i + 1] = without(rest[2 * i + 1], _mm512_extracti64x4_epi64(term[i], 1));
        }
      }
      for (int i = 0; i < vectors; ++i) {
        _mm512_storeu_si512(o + (t * vectors + i) * 64, every(term, i));
      }
    }
  }
  static Code decode(__m512i words, int j) {
    const __m512i table = Bits == 4 || j % 2 == 0 ? nibbles() : sixteens();
    return (Code)_mm512_permutexvar_epi16(_mm512_srli_epi32(words, 4 * j), table);
  }
  static __m512 mac(__m512 part, Code c, const void* x, int j) {
    const char* at = static_cast<const char*>(x) + (Bits == 4 ? j : j / 2) * 64;
    for (int t = 0; t < Terms; ++t) {
      part = _mm512_dpbf16_ps(part, c, (__m512bh)_mm512_loadu_si512(at + t * vectors * 64));
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
  // Elements i, i + vectors, i + 2 vectors, ... of the terms.
  static __m512i every(const __m512i* term, int i) {
    alignas(64) uint16_t index[32];
    for (int h = 0; h < 32; ++h) {
      index[h] = static_cast<uint16_t>((h * vectors + i) % 64);
    }
    const __m512i at = _mm512_load_si512(index);
    const __m512i low = _mm512_permutex2var_epi16(term[0], at, term[1]);
    if constexpr (vectors == 2) {
      return low;
    } else {
      const __m512i high = _mm512_permutex2var_epi16(term[2], at, term[3]);
      return _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1);
    }
  }
  static __m512i nibbles() {  // 0, 1, ..., 15 as bf16
    alignas(64) static constexpr uint16_t table[32] = {
        0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120,
        0x4130, 0x4140, 0x4150, 0x4160, 0x4170, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0,
        0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170};
    return _mm512_load_si512(table);
  }
  static __m512i sixteens() {  // 0, 16, ..., 240
    alignas(64) static constexpr uint16_t table[32] = {
        0x0000, 0x4180, 0x4200, 0x4240, 0x4280, 0x42a0, 0x42c0, 0x42e0, 0x4300, 0x4310, 0x4320,
        0x4330, 0x4340, 0x4350, 0x4360, 0x4370, 0x0000, 0x4180, 0x4200, 0x4240, 0x4280, 0x42a0,
        0x42c0, 0x42e0, 0x4300, 0x4310, 0x4320, 0x4330, 0x4340, 0x4350, 0x4360, 0x4370};
    return _mm512_load_si512(table);
  }
};

}  // namespace deltamoe::cpu
