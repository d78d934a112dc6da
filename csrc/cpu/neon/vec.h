// Four float lanes of NEON (Armv8-A). See avx512/vec.h for the contract of each name.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace deltamoe::cpu {

struct Neon {
  static constexpr int lanes = 4;
  static constexpr int gemm_rows = 4;
  static constexpr int gemm_vectors = 4;
  static constexpr int tile = 8;
  using F = float32x4_t;
  using Words = uint32x4_t;
  using Spread = int;

  static F zero() { return vdupq_n_f32(0); }
  static F set(float x) { return vdupq_n_f32(x); }
  static F load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, F x) { vst1q_f32(p, x); }
  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F sub(F a, F b) { return vsubq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F div(F a, F b) { return vdivq_f32(a, b); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F fnma(F a, F b, F c) { return vfmsq_f32(c, a, b); }
  static F min(F bound, F x) { return vminq_f32(bound, x); }
  static F max(F bound, F x) { return vmaxq_f32(bound, x); }
  static F round(F x) { return vrndnq_f32(x); }
  static F exp2i(F n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23)); }
  static float sum(F x) { return vaddvq_f32(x); }

  static F load_bf16(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
  static void store_bf16(uint16_t* p, F x) {
    const uint32x4_t u = vreinterpretq_u32_f32(x);
    const uint32x4_t lsb = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    const uint32x4_t r = vshrq_n_u32(vaddq_u32(u, vaddq_u32(lsb, vdupq_n_u32(0x7fff))), 16);
    vst1_u16(p, vmovn_u32(vbslq_u32(vceqq_f32(x, x), r, vdupq_n_u32(0x7fc0))));
  }
  static F load_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static void store_f16(uint16_t* p, F x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x))); }

  static Words load_words(const void* p) { return vld1q_u32(static_cast<const uint32_t*>(p)); }
  template <int Bits>
  static F code(Words w, int j) {  // flipping its top bit makes a code a signed number
    const uint32x4_t centred = veorq_u32(w, vdupq_n_u32(Bits == 4 ? 0x88888888U : 0x80808080U));
    const int32x4_t high = vreinterpretq_s32_u32(vshlq_u32(centred, vdupq_n_s32(32 - Bits - j * Bits)));
    return vcvtq_f32_s32(vshrq_n_s32(high, 32 - Bits));
  }
  // Four words hold 16 or 32 codes, never more than a group: one scale serves all lanes.
  static Spread pattern(int) { return 0; }
  static F spread(const float* p, Spread) { return vdupq_n_f32(*p); }
};

}  // namespace deltamoe::cpu
