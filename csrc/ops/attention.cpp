#include <algorithm>

#include "cpu/ops.h"
#include "ops/check.h"
#include "ops/ops.h"

namespace deltamoe {

namespace {

struct Attention {
  static constexpr const char* name = "attention";
  static constexpr bool strided = true;  // keys and values are slices of a cache: read where they lie
  float scale;
  bool causal;
  bool operator==(const Attention&) const = default;

  // inputs: q [B, Hq, T, D], k, v [B, Hkv, S, D] [, gate [B, T, Hq * D]]
  std::vector<Output> outputs(const Arrays& in) const {
    const mx::array& q = in[0];
    return {{{q.shape(0), q.shape(2), q.shape(1) * q.shape(3)}, q.dtype()}};
  }

  Task task(const Arrays& in, Arrays& out) const {
    cpu::Attention op{};
    op.batch = in[0].shape(0);
    op.q_heads = in[0].shape(1);
    op.tokens = in[0].shape(2);
    op.dim = in[0].shape(3);
    op.kv_heads = in[1].shape(1);
    op.keys = in[1].shape(2);
    op.dtype = dtype_of(in[0]);
    op.q = in[0].data<void>();
    op.k = in[1].data<void>();
    op.v = in[2].data<void>();
    std::copy_n(in[0].strides().begin(), 4, op.q_strides);
    std::copy_n(in[1].strides().begin(), 4, op.k_strides);
    std::copy_n(in[2].strides().begin(), 4, op.v_strides);
    if (in.size() > 3) {
      op.gate = in[3].data<void>();
      std::copy_n(in[3].strides().begin(), 3, op.gate_strides);
    }
    op.scale = scale;
    op.causal = causal;
    op.y = out[0].data<void>();
    return [op] { cpu::attention(op); };
  }

  Arrays twin(const Arrays& in, mx::Stream s) const {
    const auto f32 = [&](const mx::array& a) { return mx::astype(a, mx::float32, s); };
    const mx::array& q = in[0];
    const int B = q.shape(0), Hq = q.shape(1), T = q.shape(2), D = q.shape(3), Hkv = in[1].shape(1), S = in[1].shape(2);
    const mx::array grouped = mx::reshape(f32(q), {B, Hkv, Hq / Hkv, T, D}, s);
    const mx::array k = mx::expand_dims(f32(in[1]), 2, s);
    const mx::array v = mx::expand_dims(f32(in[2]), 2, s);
    mx::array scores = mx::multiply(mx::matmul(grouped, mx::swapaxes(k, -1, -2, s), s), mx::array(scale), s);
    if (causal) {
      const mx::array rows = mx::expand_dims(mx::arange(S - T, S, s), 1, s);
      const mx::array cols = mx::expand_dims(mx::arange(0, S, s), 0, s);
      scores = mx::where(mx::greater_equal(rows, cols, s), scores, mx::array(-INFINITY), s);
    }
    mx::array y = mx::matmul(mx::softmax(scores, -1, true, s), v, s);
    y = mx::reshape(mx::transpose(mx::reshape(y, {B, Hq, T, D}, s), {0, 2, 1, 3}, s), {B, T, Hq * D}, s);
    if (in.size() > 3) {
      y = mx::multiply(y, mx::sigmoid(f32(in[3]), s), s);
    }
    return {mx::astype(y, q.dtype(), s)};
  }
};

}  // namespace

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale, const Maybe& gate,
                    bool causal, mx::StreamOrDevice s) {
  constexpr const char* op = Attention::name;
  check_float(op, "q", q);
  check_same_dtype(op, "k", k, "q", q);
  check_same_dtype(op, "v", v, "q", q);
  check_ndim(op, "q", q, 4);
  const int D = q.shape(3);
  check_shape(op, "k", k, {q.shape(0), -1, -1, D});
  check_shape(op, "v", v, k.shape());
  require(k.shape(1) > 0 && q.shape(1) % k.shape(1) == 0, op, "q has ", q.shape(1), " heads and k has ", k.shape(1),
          ". Expected a multiple.");
  require(D % 16 == 0 && D >= 16 && D <= 512, op, "the head dimension is ", D,
          ". Expected a multiple of 16, at most 512.");
  require(k.shape(2) > 0 || q.shape(2) == 0, op, "k has no keys. Expected at least one.");
  require(!causal || k.shape(2) >= q.shape(2), op, "k has ", k.shape(2), " keys for ", q.shape(2),
          " causal queries. Expected at least as many keys.");
  Arrays inputs{q, k, v};
  if (gate) {
    check_same_dtype(op, "gate", *gate, "q", q);
    check_shape(op, "gate", *gate, {q.shape(0), q.shape(2), q.shape(1) * D});
    inputs.push_back(*gate);
  }
  return make(Attention{scale, causal}, inputs, mx::to_stream(s))[0];
}

}  // namespace deltamoe
