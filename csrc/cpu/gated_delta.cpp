#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/denormals.h"
#include "cpu/kernels.h"
#include "cpu/ops.h"
#include "cpu/pool.h"

namespace deltamoe::cpu {

namespace {

constexpr int64_t kBlock = 256;   // tokens of a sequence at once: what lies between the steps stays in cache
constexpr int64_t kTokens = 16;   // tokens of one task of the first step
constexpr int64_t kChunked = 12;  // tokens from which the chunked form wins

// A block of tokens in float.
struct Block {
  int64_t t0, tokens;
  float *q, *k, *v, *y;                // [batch][tokens][heads][dim]
  double* g;                           // [batch][tokens][v_heads]
  float *channel_base, *channel_rest;  // [batch][tokens][v_heads][dk]
  float* beta;                         // [batch][tokens][v_heads]
};

int64_t channels(const GatedDelta& op) { return int64_t{2} * op.k_heads * op.dk + int64_t{op.v_heads} * op.dv; }

bool live(const GatedDelta& op, int64_t b, int64_t t) { return !op.mask || op.mask[b * op.tokens + t]; }

// What enters the convolution of sequence b at token t, before the first token too; null where that is 0.
const void* conv_input(const GatedDelta& op, int64_t b, int64_t t) {
  const DeltaBlock& conv = *op.block;
  if (t >= 0) {
    return live(op, b, t) ? offset(conv.qkv, op.dtype, (b * op.tokens + t) * channels(op)) : nullptr;
  }
  const int before = conv.width - 1;
  return conv.conv_state ? offset(conv.conv_state, op.dtype, (b * before + before + t) * channels(op)) : nullptr;
}

class Run {
 public:
  explicit Run(const GatedDelta& op) : op_(op), kernel_(kernels()) {}

  void block(const Block& block) {
    const int64_t pieces = (block.tokens + kTokens - 1) / kTokens;
    const int64_t heads = 2 * op_.k_heads + op_.v_heads + 1;  // the last one: the gates
    Pool::instance().run(op_.batch * pieces * heads, [&](int64_t task) {
      const int64_t head = task % heads;
      const int64_t piece = task / heads % pieces;
      const int64_t b = task / heads / pieces;
      const int64_t t0 = piece * kTokens;
      const int64_t t1 = std::min(t0 + kTokens, block.tokens);
      head == heads - 1 ? gates(block, b, t0, t1) : input(block, b, t0, t1, static_cast<int>(head));
    });
    Pool::instance().run(op_.batch * op_.v_heads, [&](int64_t task) {
      recurrence(block, task / op_.v_heads, static_cast<int>(task % op_.v_heads));
    });
  }

 private:
  const GatedDelta& op_;
  const Kernels& kernel_;

  // g = exp(-exp(A_log) softplus(a + dt_bias)) and beta = sigmoid(b).
  void gates(const Block& block, int64_t b, int64_t t0, int64_t t1) {
    Scratch scratch;
    const int width = op_.channel_gate ? op_.dk : 1;
    auto* a = scratch.take<float>(op_.v_heads * width);
    auto* beta = scratch.take<float>(op_.v_heads);
    for (int64_t t = t0; t < t1; ++t) {
      const int64_t token = b * op_.tokens + block.t0 + t;
      const int64_t to = (b * block.tokens + t) * op_.v_heads;
      kernel_.load(offset(op_.a, op_.gate_dtype, token * op_.v_heads * width), op_.gate_dtype, a, op_.v_heads * width);
      kernel_.load(offset(op_.b, op_.gate_dtype, token * op_.v_heads), op_.gate_dtype, beta, op_.v_heads);
      for (int h = 0; h < op_.v_heads; ++h) {
        const double rate = -std::exp(static_cast<double>(op_.A_log[h]));
        for (int i = 0; i < width; ++i) {
          const double x = static_cast<double>(a[h * width + i]) + op_.dt_bias[h * width + i];
          const double softplus = std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
          const double g = std::exp(rate * softplus);
          if (op_.channel_gate) {
            const float base = g > 0.5 ? 1.0F : 0.0F;
            block.channel_base[(to + h) * width + i] = base;
            block.channel_rest[(to + h) * width + i] = static_cast<float>(g - base);
          } else {
            block.g[to + h] = g;
          }
        }
        block.beta[to + h] = (op_.allow_neg_eigval ? 2.0F : 1.0F) / (1.0F + std::exp(-beta[h]));
      }
    }
  }

  // Head `head` of q, k or v (in this order), tokens t0 .. t1 of the block, to float.
  void input(const Block& block, int64_t b, int64_t t0, int64_t t1, int head) {
    const bool is_q = head < op_.k_heads;
    const bool is_k = !is_q && head < 2 * op_.k_heads;
    const int own = is_q ? head : is_k ? head - op_.k_heads : head - 2 * op_.k_heads;
    const int heads = is_q || is_k ? op_.k_heads : op_.v_heads;
    const int dim = is_q || is_k ? op_.dk : op_.dv;
    float* to = (is_q ? block.q : is_k ? block.k : block.v) + (b * block.tokens * heads + own) * dim;
    const int64_t stride = static_cast<int64_t>(heads) * dim;
    if (op_.block) {
      const int64_t channel = is_q || is_k ? static_cast<int64_t>(head) * dim : 2 * op_.k_heads * op_.dk + own * dim;
      convolve(block, b, t0, t1, channel, dim, to, stride);
      for (int64_t t = t0; t < t1 && (is_q || is_k); ++t) {
        kernel_.l2_norm(to + t * stride, 1e-6F, is_q ? 1.0F / std::sqrt(static_cast<float>(dim)) : 1.0F, dim);
      }
      return;
    }
    const void* from = is_q ? op_.q : is_k ? op_.k : op_.v;
    for (int64_t t = t0; t < t1; ++t) {
      const int64_t token = b * op_.tokens + block.t0 + t;
      kernel_.load(offset(from, op_.dtype, token * stride + own * dim), op_.dtype, to + t * stride, dim);
    }
  }

  // `dim` channels from `channel` on, tokens t0 .. t1 of the block, convolved with what came before and through silu.
  void convolve(const Block& block, int64_t b, int64_t t0, int64_t t1, int64_t channel, int dim, float* to,
                int64_t stride) {
    const DeltaBlock& conv = *op_.block;
    const int before = conv.width - 1;
    Scratch scratch;
    auto* weight = scratch.take<float>(static_cast<int64_t>(dim) * conv.width);
    auto* taps = scratch.take<float>(static_cast<int64_t>(conv.width) * dim);
    auto* x = scratch.take<float>((t1 - t0 + before) * dim);
    kernel_.load(offset(conv.conv_weight, conv.conv_dtype, channel * conv.width), conv.conv_dtype, weight,
                 static_cast<int64_t>(dim) * conv.width);
    const float* tap[kMaxTaps];
    for (int j = 0; j < conv.width; ++j) {
      tap[j] = taps + static_cast<int64_t>(j) * dim;
      for (int c = 0; c < dim; ++c) {
        taps[j * dim + c] = weight[c * conv.width + j];
      }
    }
    for (int64_t i = 0; i < t1 - t0 + before; ++i) {
      float* row = x + i * dim;
      if (const void* input = conv_input(op_, b, block.t0 + t0 + i - before)) {
        kernel_.load(offset(input, op_.dtype, channel), op_.dtype, row, dim);
      } else {
        std::fill(row, row + dim, 0.0F);
      }
    }
    for (int64_t t = t0; t < t1; ++t) {
      const float* rows[kMaxTaps];
      for (int j = 0; j < conv.width; ++j) {
        rows[j] = x + (t - t0 + j) * dim;
      }
      kernel_.conv_silu(rows, tap, conv.width, to + t * stride, dim);
    }
  }

  // `tokens` tokens of a head from `t` on.
  void advance(DeltaHead head, int64_t t, int64_t tokens, float* state) {
    const bool chunked = !op_.channel_gate && tokens >= kChunked;
    Scratch scratch;
    head.q += t * head.qk_stride;
    head.k += t * head.qk_stride;
    head.v += t * head.v_stride;
    head.y += t * head.y_stride;
    head.beta += t * head.beta_stride;
    if (op_.channel_gate) {
      head.channel_base += t * head.g_stride;
      head.channel_rest += t * head.g_stride;
    } else {
      head.g += t * head.g_stride;
    }
    if (head.mask != nullptr) {
      head.mask += t;
    }
    head.tokens = tokens;
    head.state = state;
    head.scratch = chunked ? scratch.take<float>(kernel_.gated_delta_scratch(op_.dk, op_.dv)) : nullptr;
    chunked ? kernel_.gated_delta_chunks(head) : kernel_.gated_delta_rows(head);
  }

  void recurrence(const Block& block, int64_t b, int h) {
    const NoDenormals no_denormals;
    Scratch scratch;
    const int kh = h / (op_.v_heads / op_.k_heads);
    const int64_t token = b * block.tokens;
    DeltaHead head{};
    head.dk = op_.dk;
    head.dv = op_.dv;
    head.qk_stride = static_cast<int64_t>(op_.k_heads) * op_.dk;
    head.v_stride = head.y_stride = static_cast<int64_t>(op_.v_heads) * op_.dv;
    head.q = block.q + token * head.qk_stride + static_cast<int64_t>(kh) * op_.dk;
    head.k = block.k + token * head.qk_stride + static_cast<int64_t>(kh) * op_.dk;
    head.v = block.v + token * head.v_stride + static_cast<int64_t>(h) * op_.dv;
    head.y = block.y + token * head.v_stride + static_cast<int64_t>(h) * op_.dv;
    head.beta = block.beta + token * op_.v_heads + h;
    head.beta_stride = op_.v_heads;
    head.g_stride = op_.v_heads * (op_.channel_gate ? op_.dk : 1);
    if (op_.channel_gate) {
      const int64_t at = token * head.g_stride + static_cast<int64_t>(h) * op_.dk;
      head.channel_base = block.channel_base + at;
      head.channel_rest = block.channel_rest + at;
    } else {
      head.g = block.g + token * head.g_stride + h;
    }
    head.mask = op_.mask ? op_.mask + b * op_.tokens + block.t0 : nullptr;

    // All tokens up to the first snapshot at once, in its memory, then one by one from a snapshot to the next.
    const int64_t size = static_cast<int64_t>(op_.dv) * op_.dk;
    const auto state = [&](int64_t i) { return op_.state + ((b * op_.snapshots + i) * op_.v_heads + h) * size; };
    const int64_t first = op_.tokens - op_.snapshots + 1;  // tokens up to the first snapshot
    if (block.t0 == 0 && !op_.state_in) {
      std::fill_n(state(0), size, 0.0F);
    } else if (block.t0 == 0 && op_.state_in != op_.state) {
      std::copy_n(op_.state_in + (b * op_.v_heads + h) * size, size, state(0));
    }
    for (int64_t t = 0; t < block.tokens;) {
      const int64_t i = std::max<int64_t>(block.t0 + t + 1 - first, 0);
      const int64_t tokens = i > 0 ? 1 : std::min(block.tokens, first - block.t0) - t;
      if (i > 0) {
        std::copy_n(state(i - 1), size, state(i));
      }
      advance(head, t, tokens, state(i));
      t += tokens;
    }

    auto* z = scratch.take<float>(op_.dv);
    for (int64_t t = 0; t < block.tokens; ++t) {
      const int64_t to = ((b * op_.tokens + block.t0 + t) * op_.v_heads + h) * op_.dv;
      float* y = head.y + t * head.y_stride;
      if (op_.block && live(op_, b, block.t0 + t)) {
        kernel_.load(offset(op_.block->z, op_.dtype, to), op_.dtype, z, op_.dv);
        kernel_.rms_norm(y, op_.block->norm_weight, z, op_.block->norm_eps, y, op_.dv);
      }
      kernel_.store(y, offset(op_.y, op_.dtype, to), op_.dtype, op_.dv);
    }
  }
};

// The last inputs of each sequence, of the old state and the tokens that count: width - 1 for each snapshot.
void hand_over(const GatedDelta& op) {
  const int64_t rows = op.block->width - 1 + op.snapshots - 1;
  const size_t bytes = channels(op) * size_of(op.dtype);
  for (int64_t b = 0; b < op.batch; ++b) {
    for (int64_t i = 0; i < rows; ++i) {
      void* to = offset(op.block->new_conv_state, op.dtype, (b * rows + i) * channels(op));
      if (const void* input = conv_input(op, b, op.block->ends[b] + i - rows)) {
        std::memcpy(to, input, bytes);
      } else {
        std::memset(to, 0, bytes);
      }
    }
  }
}

}  // namespace

void gated_delta(const GatedDelta& op) {
  Scratch scratch;
  const int64_t most = op.batch * std::min(op.tokens, kBlock);
  Block block{};
  block.q = scratch.take<float>(most * op.k_heads * op.dk);
  block.k = scratch.take<float>(most * op.k_heads * op.dk);
  block.v = scratch.take<float>(most * op.v_heads * op.dv);
  block.y = scratch.take<float>(most * op.v_heads * op.dv);
  block.beta = scratch.take<float>(most * op.v_heads);
  if (op.channel_gate) {
    block.channel_base = scratch.take<float>(most * op.v_heads * op.dk);
    block.channel_rest = scratch.take<float>(most * op.v_heads * op.dk);
  } else {
    block.g = scratch.take<double>(most * op.v_heads);
  }
  Run run(op);
  do {  // once even without tokens: the state is handed on
    block.tokens = std::min(kBlock, op.tokens - block.t0);
    run.block(block);
    block.t0 += block.tokens;
  } while (block.t0 < op.tokens);
  if (op.block) {
    hand_over(op);
  }
}

}  // namespace deltamoe::cpu
