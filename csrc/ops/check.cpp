#include "ops/check.h"

namespace deltamoe {

namespace {

bool is_float(const mx::array& a) {
  return a.dtype() == mx::float32 || a.dtype() == mx::float16 || a.dtype() == mx::bfloat16;
}

}  // namespace

cpu::Dtype dtype_of(const mx::array& a) {
  return a.dtype() == mx::float32 ? cpu::Dtype::f32 : a.dtype() == mx::float16 ? cpu::Dtype::f16 : cpu::Dtype::bf16;
}

plan::Type plan_type(const mx::array& a) {
  return a.dtype() == mx::float32   ? plan::Type::float32
         : a.dtype() == mx::float16 ? plan::Type::float16
                                    : plan::Type::bfloat16;
}

void check_float(const char* op, const char* name, const mx::array& a) {
  require(is_float(a), op, name, " has dtype ", a.dtype(), ". Expected float32, float16 or bfloat16.");
}

void check_integer(const char* op, const char* name, const mx::array& a) {
  require(mx::issubdtype(a.dtype(), mx::integer), op, name, " has dtype ", a.dtype(), ". Expected an integer dtype.");
}

void check_same_dtype(const char* op, const char* name, const mx::array& a, const char* other_name,
                      const mx::array& other) {
  require(a.dtype() == other.dtype(), op, name, " has dtype ", a.dtype(), " and ", other_name, " has ", other.dtype(),
          ". Expected the same: cast one with astype.");
}

void check_ndim(const char* op, const char* name, const mx::array& a, size_t ndim) {
  require(a.ndim() == ndim, op, name, " has shape ", a.shape(), ". Expected ", ndim, " axes.");
}

void check_shape(const char* op, const char* name, const mx::array& a, const mx::Shape& expected) {
  bool fits = a.ndim() == expected.size();
  for (size_t i = 0; fits && i < expected.size(); ++i) {
    fits = expected[i] < 0 || a.shape(static_cast<int>(i)) == expected[i];
  }
  if (fits) {
    return;
  }
  std::ostringstream wanted;
  for (size_t i = 0; i < expected.size(); ++i) {
    wanted << (i ? "," : "") << (expected[i] < 0 ? "*" : std::to_string(expected[i]));
  }
  require(false, op, name, " has shape ", a.shape(), ". Expected (", wanted.str(), ").");
}

}  // namespace deltamoe
