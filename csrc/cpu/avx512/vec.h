// Sixteen float lanes of AVX-512 (F, BW, DQ, VL) with F16C. The same names stand in every instruction set's vec.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/types.h"

namespace deltamoe::cpu {

struct Avx512 {
  static constexpr int lanes = 16;
  static constexpr int gemm_rows = 8;  // register block of a small GEMM: gemm_rows x gemm_vectors accumulators
  static constexpr int gemm_vectors = 2;
  static constexpr int tile = 8;  // activation rows multiplied at once by a quantised matrix
  using F = __m512;
  using Words = __m512i;
  using Spread = __m512i;

  static F zero() { return _mm512_setzero_ps(); }
  static F set(float x) { return _mm512_set1_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }    // a b + c
  static F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
  static F min(F bound, F x) { return _mm512_min_ps(bound, x); }      // a NaN in x stays
  static F max(F bound, F x) { return _mm512_max_ps(bound, x); }
  static F round(F x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F exp2i(F n) {  // 2^n of whole n, -126 <= n <= 127
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
  }
  static float sum(F x) { return _mm512_reduce_add_ps(x); }

  static F load_bf16(const uint16_t* p) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
  }
  static void store_bf16(uint16_t* p, F x) {  // to nearest even; NaN stays NaN
    const __m512i u = _mm512_castps_si512(x);
    const __m512i lsb = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(lsb, _mm512_set1_epi32(0x7fff))), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    r = _mm512_mask_mov_epi32(r, nan, _mm512_set1_epi32(0x7fc0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(r));
  }
  static F load_f16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void store_f16(uint16_t* p, F x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }

  // Optional in a vec.h: the first n < 16 elements, zeros behind, nothing read beyond.
  static F load_some(const void* p, Dtype dtype, int n) {
    const auto mask = static_cast<__mmask16>((1U << n) - 1);
    switch (dtype) {
      case Dtype::bf16:
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16));
      case Dtype::f16:
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p));
      default:
        return _mm512_maskz_loadu_ps(mask, p);
    }
  }

  static Words load_words(const void* p) { return _mm512_loadu_si512(p); }
  // Code j of every word, less 2^(Bits - 1).
  template <int Bits>
  static F code(Words w, int j) {
    if constexpr (Bits == 4) {  // a lookup takes the low four bits itself
      const __m512 table = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
      return _mm512_permutexvar_ps(_mm512_srli_epi32(w, j * Bits), table);
    }
    const __m512i centred = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(centred, 32 - Bits - j * Bits), 32 - Bits));
  }
  // Lane l of `spread(p, pattern(n))` is p[l / n]: the scale of word l where n words share one. Reads p[0..3].
  static Spread pattern(int words) {
    alignas(64) int32_t index[lanes];
    for (int l = 0; l < lanes; ++l) {
      index[l] = l / words;
    }
    return _mm512_load_si512(index);
  }
  static F spread(const float* p, Spread pattern) {
    return _mm512_permutexvar_ps(pattern, _mm512_castps128_ps512(_mm_loadu_ps(p)));
  }
};

}  // namespace deltamoe::cpu
