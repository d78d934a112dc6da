// Products in bf16 (vdpbf16ps), exact: a 4-bit code is a bf16 number, an 8-bit code the sum of two (16 times the high
// half, and the low half). Sums are float.
//
// A vector of 16 words is 32 halfwords of four nibbles. Step j looks nibble j of each halfword up in a table of 16 bf16
// numbers. The table stands twice in its register, so that the lookup's fifth index bit does not matter and no mask is
// needed. x is packed as [vector][32 halfwords]: halfword h of vector i is x[h * vectors + i].
#pragma once

#include "cpu/avx512/vec.h"

namespace deltamoe::cpu {

struct Avx512Bf16 : Avx512 {};

template <int Bits>
struct Bf16Dot {
  static constexpr int codes = 32 / Bits;
  static constexpr int block = codes * Avx512::lanes;
  static constexpr int steps = 4;
  static constexpr int vectors = 16 / Bits;
  static constexpr size_t block_bytes = size_t{2} * block;
  using Code = __m512bh;
  using Activation = __m512bh;

  static void pack(const float* x, void* out) {
    __m512i in_order[vectors];
    for (int i = 0; i < vectors; ++i) {
      in_order[i] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 32 * i + 16), _mm512_loadu_ps(x + 32 * i));
    }
    for (int i = 0; i < vectors; ++i) {
      _mm512_storeu_si512(static_cast<char*>(out) + 64 * i, every(in_order, i));
    }
  }
  static Code decode(__m512i words, int j) {
    const __m512i table = Bits == 4 || j % 2 == 0 ? nibbles() : sixteens();
    return (Code)_mm512_permutexvar_epi16(_mm512_srli_epi32(words, 4 * j), table);
  }
  static Activation activation(const void* x, int j) {
    return (Activation)_mm512_loadu_si512(static_cast<const char*>(x) + (Bits == 4 ? j : j / 2) * 64);
  }
  static __m512 mac(__m512 part, Code c, Activation x) { return _mm512_dpbf16_ps(part, c, x); }

 private:
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
  static __m512i nibbles() {  // 0, 1, ..., 15 as bf16
    alignas(64) static constexpr uint16_t table[32] = {0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0,
                                                       0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170,
                                                       0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0,
                                                       0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170};
    return _mm512_load_si512(table);
  }
  static __m512i sixteens() {  // 0, 16, ..., 240
    alignas(64) static constexpr uint16_t table[32] = {0x0000, 0x4180, 0x4200, 0x4240, 0x4280, 0x42a0, 0x42c0, 0x42e0,
                                                       0x4300, 0x4310, 0x4320, 0x4330, 0x4340, 0x4350, 0x4360, 0x4370,
                                                       0x0000, 0x4180, 0x4200, 0x4240, 0x4280, 0x42a0, 0x42c0, 0x42e0,
                                                       0x4300, 0x4310, 0x4320, 0x4330, 0x4340, 0x4350, 0x4360, 0x4370};
    return _mm512_load_si512(table);
  }
};

}  // namespace deltamoe::cpu
