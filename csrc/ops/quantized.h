// Affine-quantised matrices among an op's inputs: three arrays in a row, codes, scales and biases.
#pragma once

#include "cpu/types.h"
#include "ops/op.h"

namespace deltamoe {

struct Quantized {
  mx::array codes, scales, biases;
};

// How codes are stored: follows from the shapes once the number of columns is known.
struct Format {
  int bits = 4;
  int group = 64;
  bool operator==(const Format&) const = default;
};

// The format of `w`, with `lead` leading axes (experts), `rows` rows (-1: any) and `cols` columns; throws if it has
// none.
Format check_quantized(const char* op, const char* name, const Quantized& w, size_t lead, int rows, int cols);

void append(Arrays& inputs, const Quantized& w);
// Inputs i, i + 1, i + 2.
Quantized quantized_at(const Arrays& inputs, size_t i);
// The same for the CPU back end; a stack of matrices gives its first.
cpu::Quantized cpu_quantized_at(const Arrays& inputs, size_t i, Format format);

// x w^T in plain MLX ops, on the CPU in float32: MLX's half-precision quantised matmul is inexact there.
mx::array project(const mx::array& x, const Quantized& w, Format format, mx::Stream s);
// The same from dequantised weights: slower, but forward-mode differentiable.
mx::array project_dense(const mx::array& x, const Quantized& w, Format format, mx::Stream s);
// x in the dtype that `project` computes in.
mx::array widen(const mx::array& x, mx::Stream s);
mx::array silu(const mx::array& x, mx::Stream s);

}  // namespace deltamoe
