#include "ops/read.h"

#include <stdexcept>

namespace deltamoe {

namespace {

template <class From, class To>
std::vector<To> convert(const void* data, size_t size) {
  const auto* p = static_cast<const From*>(data);
  std::vector<To> values(size);
  for (size_t i = 0; i < size; ++i) {
    values[i] = static_cast<To>(p[i]);
  }
  return values;
}

}  // namespace

std::vector<float> Floats::read() const {
  switch (dtype_.val()) {
    case mx::Dtype::Val::float16:
      return convert<mx::float16_t, float>(data_, size_);
    case mx::Dtype::Val::bfloat16:
      return convert<mx::bfloat16_t, float>(data_, size_);
    default:
      return convert<float, float>(data_, size_);
  }
}

std::vector<int64_t> Integers::read() const {
  switch (dtype_.val()) {
    case mx::Dtype::Val::uint8:
      return convert<uint8_t, int64_t>(data_, size_);
    case mx::Dtype::Val::uint16:
      return convert<uint16_t, int64_t>(data_, size_);
    case mx::Dtype::Val::uint32:
      return convert<uint32_t, int64_t>(data_, size_);
    case mx::Dtype::Val::int8:
      return convert<int8_t, int64_t>(data_, size_);
    case mx::Dtype::Val::int16:
      return convert<int16_t, int64_t>(data_, size_);
    case mx::Dtype::Val::int32:
      return convert<int32_t, int64_t>(data_, size_);
    default:
      return convert<int64_t, int64_t>(data_, size_);  // uint64 too: what wraps is negative, and refused as such
  }
}

}  // namespace deltamoe
