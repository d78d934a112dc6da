// Plain descriptions of memory that the CPU back end works on. Nothing in csrc/cpu knows of MLX.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deltamoe::cpu {

enum class Dtype : uint8_t { f32, f16, bf16 };

inline constexpr size_t size_of(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }

inline const void* offset(const void* data, Dtype dtype, int64_t elements) {
  return static_cast<const char*>(data) + elements * static_cast<int64_t>(size_of(dtype));
}
inline void* offset(void* data, Dtype dtype, int64_t elements) {
  return static_cast<char*>(data) + elements * static_cast<int64_t>(size_of(dtype));
}

// One matrix [rows, cols] in MLX's affine layout, rows contiguous:
//   w[n][k] = scales[n][k / group] * code[n][k] + biases[n][k / group],  code k in bits (k % (32 / bits)) * bits of its
//   word.
struct Quantized {
  const void* codes = nullptr;
  const void* scales = nullptr;
  const void* biases = nullptr;
  Dtype dtype = Dtype::f32;  // of scales and biases
  int bits = 4;
  int group = 64;
  int64_t rows = 0;
  int64_t cols = 0;

  int64_t row_bytes() const { return cols * bits / 8; }
  int64_t groups() const { return cols / group; }

  // Matrix e of a contiguous stack of matrices like this one.
  Quantized at(int64_t e) const {
    Quantized m = *this;
    m.codes = static_cast<const char*>(codes) + e * rows * row_bytes();
    m.scales = offset(scales, dtype, e * rows * groups());
    m.biases = offset(biases, dtype, e * rows * groups());
    return m;
  }
};

}  // namespace deltamoe::cpu
