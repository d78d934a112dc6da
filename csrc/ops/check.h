// What an op accepts. Every failed check throws std::invalid_argument (ValueError in Python) that says what came, what
// was expected and, where it is not plain, what to do.
#pragma once

#include <sstream>
#include <string>

#include "cpu/types.h"
#include "mlx/mlx.h"
#include "plan/plan.h"

namespace deltamoe {

namespace mx = mlx::core;

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// require(ok, "qlinear", "x has ...") throws "[qlinear] x has ..." unless ok.
template <class... Parts>
void require(bool ok, const char* op, const Parts&... parts) {
  if (!ok) {
    throw std::invalid_argument(text("[", op, "] ", parts...));
  }
}

// Of an array that check_float let through.
cpu::Dtype dtype_of(const mx::array& a);
plan::Type plan_type(const mx::array& a);
void check_float(const char* op, const char* name, const mx::array& a);
void check_integer(const char* op, const char* name, const mx::array& a);
void check_same_dtype(const char* op, const char* name, const mx::array& a, const char* other_name,
                      const mx::array& other);
void check_ndim(const char* op, const char* name, const mx::array& a, size_t ndim);
// Dimensions given as -1 may be anything.
void check_shape(const char* op, const char* name, const mx::array& a, const mx::Shape& expected);

}  // namespace deltamoe
