// The table of kernels for one instruction set: V its vectors, Dot<Bits, Terms> how it multiplies codes by activations
// that are sums of so many bf16 numbers.
#pragma once

#include "cpu/kernels.h"
#include "cpu/kernels/attention.h"
#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/gated_delta.h"
#include "cpu/kernels/qmatmul.h"

namespace deltamoe::cpu {

template <class V, template <int Bits, int Terms> class Dot>
struct Table {
  // Calls body with the QuantizedMatmul that the packing asks for.
  template <class Body>
  static auto choose(const Packing& p, Body body) {
    return p.bits == 4 ? with_terms<4>(p, body) : with_terms<8>(p, body);
  }
  template <int Bits, class Body>
  static auto with_terms(const Packing& p, Body body) {
    switch (p.terms) {
      case 1:
        return body(QuantizedMatmul<V, Dot<Bits, 1>>());
      case 2:
        return body(QuantizedMatmul<V, Dot<Bits, 2>>());
      default:
        return body(QuantizedMatmul<V, Dot<Bits, 3>>());
    }
  }

  static int tile_rows(const Packing& p) {
    return choose(p, [&](auto q) { return q.tile_rows(p); });
  }
  static size_t tile_bytes(const Packing& p, int rows) {
    return choose(p, [&](auto q) { return q.tile_bytes(p, rows); });
  }
  static void pack(const Packing& p, int rows, const void* const* x, Dtype dtype, void* tile) {
    choose(p, [&](auto q) { q.pack(p, rows, x, dtype, tile); });
  }
  static void multiply(const Quantized& w, const Packing& p, int64_t n0, int64_t n1, int rows, const void* tile,
                       float* y, int64_t stride) {
    choose(p, [&](auto q) { q.multiply(w, p, n0, n1, rows, tile, y, stride); });
  }

  static constexpr Kernels make(const char* name) {
    using E = Elementwise<V>;
    return {
        .name = name,
        .tile_rows = tile_rows,
        .tile_bytes = tile_bytes,
        .pack = pack,
        .multiply = multiply,
        .load = E::load,
        .gather = E::gather,
        .store = E::store,
        .add_scaled = E::add_scaled,
        .scale = E::scale,
        .swiglu = E::swiglu,
        .gate = E::gate,
        .exp_sum = E::exp_sum,
        .rms_norm = E::rms_norm,
        .l2_norm = E::l2_norm,
        .conv_silu = E::conv_silu,
        .gated_delta_rows = GatedDelta<V>::rows,
        .gated_delta_chunks = GatedDelta<V>::chunks,
        .gated_delta_scratch = GatedDelta<V>::scratch,
        .attention = Attention<V>::run,
        .attention_scratch = Attention<V>::scratch,
    };
  }
};

}  // namespace deltamoe::cpu
