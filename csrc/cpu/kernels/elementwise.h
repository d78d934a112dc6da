// Element by element: conversions, exponentials, activations, norms. V is an instruction set's vec.h.
#pragma once

#include <cmath>
#include <cstring>

#include "cpu/types.h"

namespace deltamoe::cpu {

template <class V>
struct Elementwise {
  using F = typename V::F;
  static constexpr int L = V::lanes;

  // e^x to within 2 units in the last place: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial of degree 6 in r. Results
  // below the smallest normal float come out as that float at least 2^-126 away from nothing, never as a subnormal.
  static F exp(F x) {
    x = V::min(V::set(88.3762626647949F), V::max(V::set(-87.3365447504019F), x));
    const F n = V::round(V::mul(x, V::set(1.44269504088896341F)));
    F r = V::fnma(n, V::set(0.693359375F), x);
    r = V::fnma(n, V::set(-2.12194440054690583e-4F), r);
    F p = V::set(1.9875691500e-4F);
    p = V::fma(p, r, V::set(1.3981999507e-3F));
    p = V::fma(p, r, V::set(8.3334519073e-3F));
    p = V::fma(p, r, V::set(4.1665795894e-2F));
    p = V::fma(p, r, V::set(1.6666665459e-1F));
    p = V::fma(p, r, V::set(5.0000001201e-1F));
    p = V::fma(p, V::mul(r, r), V::add(r, V::set(1.0F)));
    return V::mul(p, V::exp2i(n));
  }
  static F over_sigmoid(F x) { return V::add(V::set(1.0F), exp(V::sub(V::zero(), x))); }  // 1 / sigmoid(x)
  static F silu(F x) { return V::div(x, over_sigmoid(x)); }

  // Whole vectors of n elements, then the rest through a padded copy.
  template <class Body>
  static void each(int64_t n, Body body) {
    int64_t i = 0;
    for (; i + L <= n; i += L) {
      body(i, L);
    }
    if (i < n) {
      body(i, static_cast<int>(n - i));
    }
  }
  // The first `count` of L elements, zeros behind; put writes no more than those.
  static F get(const float* p, int count) { return get(p, Dtype::f32, 0, count); }
  static F get(const void* p, Dtype dtype, int64_t i, int count) {
    const void* from = offset(p, dtype, i);
    alignas(64) char tail[L * sizeof(float)];
    if (count < L) {
      if constexpr (requires { V::load_some(from, dtype, count); }) {
        return V::load_some(from, dtype, count);
      }
      std::memset(tail, 0, sizeof(tail));
      std::memcpy(tail, from, count * size_of(dtype));
      from = tail;
    }
    switch (dtype) {
      case Dtype::bf16:
        return V::load_bf16(static_cast<const uint16_t*>(from));
      case Dtype::f16:
        return V::load_f16(static_cast<const uint16_t*>(from));
      default:
        return V::load(static_cast<const float*>(from));
    }
  }
  static void put(float* p, F x, int count) {
    if (count == L) {
      return V::store(p, x);
    }
    float tail[L];
    V::store(tail, x);
    std::memcpy(p, tail, count * sizeof(float));
  }

  static void load(const void* x, Dtype dtype, float* y, int64_t n) {
    each(n, [&](int64_t i, int count) { put(y + i, get(x, dtype, i, count), count); });
  }
  static void gather(const void* x, Dtype dtype, int64_t stride, float* y, int64_t n) {
    if (stride == 1) {
      return load(x, dtype, y, n);
    }
    for (int64_t i = 0; i < n; ++i) {
      load(offset(x, dtype, i * stride), dtype, y + i, 1);
    }
  }
  static void store(const float* x, void* y, Dtype dtype, int64_t n) {
    each(n, [&](int64_t i, int count) {
      const F v = get(x + i, count);
      if (dtype == Dtype::f32) {
        return put(static_cast<float*>(y) + i, v, count);
      }
      uint16_t* h = static_cast<uint16_t*>(y) + i;
      uint16_t tail[L];
      uint16_t* to = count == L ? h : tail;
      dtype == Dtype::bf16 ? V::store_bf16(to, v) : V::store_f16(to, v);
      if (count < L) {
        std::memcpy(h, tail, count * sizeof(uint16_t));
      }
    });
  }
  static void add_scaled(float scale, const float* x, float* y, int64_t n) {
    const F s = V::set(scale);
    each(n, [&](int64_t i, int count) { put(y + i, V::fma(s, get(x + i, count), get(y + i, count)), count); });
  }
  static void scale(float scale, float* x, int64_t n) {
    const F s = V::set(scale);
    each(n, [&](int64_t i, int count) { put(x + i, V::mul(s, get(x + i, count)), count); });
  }
  static void gate(const float* gate, float* x, int64_t n) {
    each(n, [&](int64_t i, int count) {
      put(x + i, V::div(get(x + i, count), over_sigmoid(get(gate + i, count))), count);
    });
  }
  static void swiglu(const float* gate, const float* up, float* h, int64_t n) {
    each(n, [&](int64_t i, int count) { put(h + i, V::mul(silu(get(gate + i, count)), get(up + i, count)), count); });
  }
  static float exp_sum(const float* x, float shift, int64_t n) {
    F total = V::zero();
    float rest = 0;
    each(n, [&](int64_t i, int count) {
      const F e = exp(V::sub(get(x + i, count), V::set(shift)));
      if (count == L) {
        total = V::add(total, e);
        return;
      }
      float tail[L];
      V::store(tail, e);
      for (int l = 0; l < count; ++l) {
        rest += tail[l];
      }
    });
    return V::sum(total) + rest;
  }

  static float sum_of_squares(const float* x, int64_t n) {
    F total[2] = {V::zero(), V::zero()};
    each(n, [&](int64_t i, int count) {
      const F v = get(x + i, count);
      F& t = total[(i / L) % 2];
      t = V::fma(v, v, t);
    });
    return V::sum(V::add(total[0], total[1]));
  }
  static void rms_norm(const float* x, const float* weight, const float* gate, float eps, float* y, int64_t n) {
    const F scale = V::set(1.0F / std::sqrt(sum_of_squares(x, n) / static_cast<float>(n) + eps));
    each(n, [&](int64_t i, int count) {
      F v = V::mul(get(x + i, count), scale);
      if (weight) {
        v = V::mul(v, get(weight + i, count));
      }
      if (gate) {
        v = V::mul(v, silu(get(gate + i, count)));
      }
      put(y + i, v, count);
    });
  }
  static void l2_norm(float* x, float eps, float scale, int64_t n) {
    const F s = V::set(scale / std::sqrt(sum_of_squares(x, n) + eps));
    each(n, [&](int64_t i, int count) { put(x + i, V::mul(get(x + i, count), s), count); });
  }
  static void conv_silu(const float* const* x, const float* const* taps, int width, float* y, int64_t n) {
    each(n, [&](int64_t i, int count) {
      F total = V::zero();
      for (int j = 0; j < width; ++j) {
        total = V::fma(get(x[j] + i, count), get(taps[j] + i, count), total);
      }
      put(y + i, silu(total), count);
    });
  }
};

}  // namespace deltamoe::cpu
