#include "ops/quantized.h"

#include "ops/check.h"

namespace deltamoe {

Format check_quantized(const char* op, const char* name, const Quantized& w, size_t lead, int rows, int cols) {
  const auto part = [&](const char* suffix) { return std::string(name) + suffix; };
  require(w.codes.dtype() == mx::uint32, op, part(".weight"), " has dtype ", w.codes.dtype(),
          ". Expected uint32 codes as mx.quantize returns them.");
  check_float(op, part(".scales").c_str(), w.scales);
  check_float(op, part(".biases").c_str(), w.biases);
  check_same_dtype(op, part(".biases").c_str(), w.biases, part(".scales").c_str(), w.scales);
  check_ndim(op, part(".weight").c_str(), w.codes, lead + 2);
  check_ndim(op, part(".scales").c_str(), w.scales, lead + 2);
  require(w.biases.shape() == w.scales.shape(), op, name, ".biases has shape ", w.biases.shape(), " and .scales has ",
          w.scales.shape(), ". Expected the same.");
  for (size_t i = 0; i <= lead; ++i) {
    const auto axis = static_cast<int>(i);
    require(w.codes.shape(axis) == w.scales.shape(axis), op, name, ".weight has shape ", w.codes.shape(),
            " and .scales has ", w.scales.shape(), ". Expected the same but for the last axis.");
  }
  require(rows < 0 || w.codes.shape(-2) == rows, op, name, " has ", w.codes.shape(-2), " rows. Expected ", rows, ".");

  const int64_t words = w.codes.shape(-1);
  const int64_t groups = w.scales.shape(-1);
  Format format{};
  const bool whole_bits = cols > 0 && words * 32 % cols == 0;
  format.bits = whole_bits ? static_cast<int>(words * 32 / cols) : 0;
  require(format.bits == 4 || format.bits == 8, op, name, ".weight has ", words, " words a row for ", cols,
          " columns. Expected 4 or 8 bits: ", cols / 8, " or ", cols / 4, " words.");
  const bool whole_groups = groups > 0 && cols % groups == 0;
  format.group = whole_groups ? static_cast<int>(cols / groups) : 0;
  require(format.group == 32 || format.group == 64 || format.group == 128, op, name, ".scales has ", groups,
          " groups a row for ", cols, " columns. Expected a group size of 32, 64 or 128.");
  return format;
}

void append(Arrays& inputs, const Quantized& w) {
  inputs.push_back(w.codes);
  inputs.push_back(w.scales);
  inputs.push_back(w.biases);
}

Quantized quantized_at(const Arrays& inputs, size_t i) { return {inputs[i], inputs[i + 1], inputs[i + 2]}; }

cpu::Quantized cpu_quantized_at(const Arrays& inputs, size_t i, Format format) {
  cpu::Quantized w;
  w.codes = inputs[i].data<void>();
  w.scales = inputs[i + 1].data<void>();
  w.biases = inputs[i + 2].data<void>();
  w.dtype = dtype_of(inputs[i + 1]);
  w.bits = format.bits;
  w.group = format.group;
  w.rows = inputs[i].shape(-2);
  w.cols = int64_t{inputs[i].shape(-1)} * 32 / format.bits;
  return w;
}

mx::array widen(const mx::array& x, mx::Stream s) {
  return s.device == mx::Device::cpu ? mx::astype(x, mx::float32, s) : x;
}

mx::array project(const mx::array& x, const Quantized& w, Format format, mx::Stream s) {
  return mx::quantized_matmul(widen(x, s), w.codes, widen(w.scales, s), widen(w.biases, s), true, format.group,
                              format.bits, "affine", s);
}

mx::array project_dense(const mx::array& x, const Quantized& w, Format format, mx::Stream s) {
  const mx::array dense =
      mx::dequantize(w.codes, mx::astype(w.scales, mx::float32, s), mx::astype(w.biases, mx::float32, s), format.group,
                     format.bits, "affine", std::nullopt, std::nullopt, s);
  return mx::matmul(mx::astype(x, mx::float32, s), mx::swapaxes(dense, -1, -2, s), s);
}

mx::array silu(const mx::array& x, mx::Stream s) { return mx::multiply(x, mx::sigmoid(x, s), s); }

}  // namespace deltamoe
