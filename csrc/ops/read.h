// Small inputs read when their op runs, in whatever dtype they have: no cast in the graph.
#pragma once

#include <vector>

#include "ops/op.h"

namespace deltamoe {

class Floats {
 public:
  explicit Floats(const mx::array& a) : data_(a.data<void>()), size_(a.size()), dtype_(a.dtype()) {}
  std::vector<float> read() const;

 private:
  const void* data_;
  size_t size_;
  mx::Dtype dtype_;
};

class Integers {
 public:
  explicit Integers(const mx::array& a) : data_(a.data<void>()), size_(a.size()), dtype_(a.dtype()) {}
  std::vector<int64_t> read() const;

 private:
  const void* data_;
  size_t size_;
  mx::Dtype dtype_;
};

}  // namespace deltamoe
