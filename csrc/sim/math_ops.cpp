// The arithmetic that Apple's compiler leaves to the GPU: `air.<function>.<type>` and `air.fast_<function>.<type>`.
// Both are computed with the precision of the C library: what Apple's fast variants lose is unknown here.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>

#include "sim/float16.h"
#include "sim/symbols.h"

namespace deltamoe::sim {
namespace {

constexpr float kPi = 3.14159265358979323846F;

float fract(float x) { return std::fmin(x - std::floor(x), 0x1.fffffep-1F); }
float exp10(float x) { return static_cast<float>(std::pow(10.0, static_cast<double>(x))); }
float rsqrt(float x) { return 1.0F / std::sqrt(x); }
float cospi(float x) { return std::cos(std::fmod(x, 2.0F) * kPi); }
float sinpi(float x) { return std::sin(std::fmod(x, 2.0F) * kPi); }
float tanpi(float x) { return std::tan(std::fmod(x, 1.0F) * kPi); }
float saturate(float x) { return std::fmin(std::fmax(x, 0.0F), 1.0F); }
float divide(float x, float y) { return x / y; }
float max3(float x, float y, float z) { return std::fmax(x, std::fmax(y, z)); }
float min3(float x, float y, float z) { return std::fmin(x, std::fmin(y, z)); }
float median3(float x, float y, float z) { return std::fmax(std::fmin(x, y), std::fmin(std::fmax(x, y), z)); }
float clamp(float x, float low, float high) { return std::fmin(std::fmax(x, low), high); }

using Unary = float (*)(float);
using Binary = float (*)(float, float);
using Ternary = float (*)(float, float, float);

template <Unary f>
float unary(float x) {
  return f(x);
}
template <Unary f>
uint32_t unary_half(uint32_t x) {
  return float_to_half(f(half_to_float(static_cast<uint16_t>(x))));
}
template <Binary f>
float binary(float x, float y) {
  return f(x, y);
}
template <Binary f>
uint32_t binary_half(uint32_t x, uint32_t y) {
  return float_to_half(f(half_to_float(static_cast<uint16_t>(x)), half_to_float(static_cast<uint16_t>(y))));
}
template <Ternary f>
float ternary(float x, float y, float z) {
  return f(x, y, z);
}
template <Ternary f>
uint32_t ternary_half(uint32_t x, uint32_t y, uint32_t z) {
  return float_to_half(f(half_to_float(static_cast<uint16_t>(x)), half_to_float(static_cast<uint16_t>(y)),
                         half_to_float(static_cast<uint16_t>(z))));
}

float ldexp_float(float x, int32_t exponent) { return std::ldexp(x, exponent); }
uint32_t ldexp_half(uint32_t x, int32_t exponent) {
  return float_to_half(std::ldexp(half_to_float(static_cast<uint16_t>(x)), exponent));
}

class Adder {
 public:
  explicit Adder(Symbols& symbols) : symbols_(symbols) {}

  template <Unary f>
  void add1(const std::string& name) {
    add(name, unary<f>, unary_half<f>);
  }
  template <Binary f>
  void add2(const std::string& name) {
    add(name, binary<f>, binary_half<f>);
  }
  template <Ternary f>
  void add3(const std::string& name) {
    add(name, ternary<f>, ternary_half<f>);
  }
  template <class F, class H>
  void add(const std::string& name, F* f, H* h) {
    for (const char* prefix : {"air.", "air.fast_"}) {
      symbols_[prefix + name + ".f32"] = reinterpret_cast<void*>(f);
      symbols_[prefix + name + ".f16"] = reinterpret_cast<void*>(h);
    }
  }

 private:
  Symbols& symbols_;
};

// ---- integers: C's types of at most 32 bits come with their upper bits undefined
// ---------------------------------------

template <class T>
using Wide = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <class T>
Wide<T> int_min(Wide<T> a, Wide<T> b) {
  return static_cast<Wide<T>>(std::min(static_cast<T>(a), static_cast<T>(b)));
}
template <class T>
Wide<T> int_max(Wide<T> a, Wide<T> b) {
  return static_cast<Wide<T>>(std::max(static_cast<T>(a), static_cast<T>(b)));
}
template <class T>
Wide<T> int_clamp(Wide<T> x, Wide<T> low, Wide<T> high) {
  return static_cast<Wide<T>>(std::min(std::max(static_cast<T>(x), static_cast<T>(low)), static_cast<T>(high)));
}
template <class T>
Wide<T> int_abs(Wide<T> x) {
  const T value = static_cast<T>(x);
  return value < 0 ? Wide<T>{0} - static_cast<Wide<T>>(value) : static_cast<Wide<T>>(value);
}
template <class U>
Wide<U> popcount(Wide<U> x) {
  return static_cast<Wide<U>>(std::popcount(static_cast<U>(x)));
}
template <class U>
Wide<U> clz(Wide<U> x) {
  return static_cast<Wide<U>>(std::countl_zero(static_cast<U>(x)));
}
template <class U>
Wide<U> ctz(Wide<U> x) {
  return static_cast<Wide<U>>(std::countr_zero(static_cast<U>(x)));
}
template <class U>
Wide<U> reverse_bits(Wide<U> x) {
  U result = 0;
  for (unsigned i = 0; i < 8 * sizeof(U); i++) {
    result = static_cast<U>(result << 1 | (static_cast<U>(x) >> i & 1));
  }
  return result;
}
uint32_t mulhi_signed(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(static_cast<uint64_t>(int64_t{static_cast<int32_t>(a)} * static_cast<int32_t>(b)) >> 32);
}
uint32_t mulhi_unsigned(uint32_t a, uint32_t b) { return static_cast<uint32_t>(uint64_t{a} * b >> 32); }

template <class T>
void add_integer(Symbols& s, const std::string& type) {
  using U = std::make_unsigned_t<T>;
  const std::string sign = std::is_signed_v<T> ? "s." : "u.";
  const auto add = [&](const std::string& name, auto* f) {
    s["air." + name + "." + sign + type] = reinterpret_cast<void*>(f);
  };
  add("min", int_min<T>);
  add("max", int_max<T>);
  add("clamp", int_clamp<T>);
  add("abs", int_abs<T>);
  s["air.popcount." + type] = reinterpret_cast<void*>(popcount<U>);
  s["air.clz." + type] = reinterpret_cast<void*>(clz<U>);
  s["air.ctz." + type] = reinterpret_cast<void*>(ctz<U>);
  s["air.reverse_bits." + type] = reinterpret_cast<void*>(reverse_bits<U>);
}

// ---- what LLVM calls for 16-bit floats where the processor has no instruction for them. They travel in the low half
// of a float's register ----

float extend_half(float x) { return half_to_float(static_cast<uint16_t>(std::bit_cast<uint32_t>(x))); }
float truncate_to_half(float x) { return std::bit_cast<float>(static_cast<uint32_t>(float_to_half(x))); }
float truncate_to_bfloat(float x) { return std::bit_cast<float>(static_cast<uint32_t>(float_to_bfloat(x))); }

}  // namespace

void add_math_ops(Symbols& s) {
  Adder a(s);
  a.add1<std::acos>("acos");
  a.add1<std::acosh>("acosh");
  a.add1<std::asin>("asin");
  a.add1<std::asinh>("asinh");
  a.add1<std::atan>("atan");
  a.add1<std::atanh>("atanh");
  a.add1<std::ceil>("ceil");
  a.add1<std::cos>("cos");
  a.add1<std::cosh>("cosh");
  a.add1<cospi>("cospi");
  a.add1<std::exp>("exp");
  a.add1<exp10>("exp10");
  a.add1<std::exp2>("exp2");
  a.add1<std::fabs>("fabs");
  a.add1<std::floor>("floor");
  a.add1<fract>("fract");
  a.add1<std::log>("log");
  a.add1<std::log10>("log10");
  a.add1<std::log2>("log2");
  a.add1<std::rint>("rint");
  a.add1<std::round>("round");
  a.add1<rsqrt>("rsqrt");
  a.add1<saturate>("saturate");
  a.add1<std::sin>("sin");
  a.add1<std::sinh>("sinh");
  a.add1<sinpi>("sinpi");
  a.add1<std::sqrt>("sqrt");
  a.add1<std::tan>("tan");
  a.add1<std::tanh>("tanh");
  a.add1<tanpi>("tanpi");
  a.add1<std::trunc>("trunc");
  a.add2<std::atan2>("atan2");
  a.add2<std::copysign>("copysign");
  a.add2<divide>("divide");
  a.add2<std::fdim>("fdim");
  a.add2<std::fmax>("fmax");
  a.add2<std::fmin>("fmin");
  a.add2<std::fmod>("fmod");
  a.add2<std::nextafter>("nextafter");
  a.add2<std::pow>("pow");
  a.add2<std::pow>("powr");
  a.add3<std::fma>("fma");
  a.add3<clamp>("clamp");
  a.add3<max3>("fmax3");
  a.add3<median3>("fmedian3");
  a.add3<min3>("fmin3");
  a.add("ldexp", ldexp_float, ldexp_half);

  add_integer<int8_t>(s, "i8");
  add_integer<uint8_t>(s, "i8");
  add_integer<int16_t>(s, "i16");
  add_integer<uint16_t>(s, "i16");
  add_integer<int32_t>(s, "i32");
  add_integer<uint32_t>(s, "i32");
  add_integer<int64_t>(s, "i64");
  add_integer<uint64_t>(s, "i64");
  s["__extendhfsf2"] = reinterpret_cast<void*>(extend_half);
  s["__truncsfhf2"] = reinterpret_cast<void*>(truncate_to_half);
  s["__truncsfbf2"] = reinterpret_cast<void*>(truncate_to_bfloat);
  s["air.mulhi.s.i32"] = reinterpret_cast<void*>(mulhi_signed);
  s["air.mulhi.u.i32"] = reinterpret_cast<void*>(mulhi_unsigned);
}

}  // namespace deltamoe::sim
