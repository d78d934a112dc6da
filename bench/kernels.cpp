// The CPU kernels on one thread with operands in cache, and the gated delta rule of a whole layer on all threads, as
// shares of the FMA peak measured beside each sample. Printed per instruction set: bench_kernels [ISA ...]. Times are
// processor time, of all threads together (one that waits for another spins); only the shares mean much on a shared
// machine.
#include "cpu/kernels.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <vector>

#include "cpu/features.h"
#include "cpu/limits.h"
#include "cpu/ops.h"
#include "cpu/pool.h"

namespace cpu = deltamoe::cpu;

namespace {

enum class On { one_thread, all_threads };

template <class Body>
double seconds(On on, Body body) {
  const auto now = [on] {
    timespec t{};
    clock_gettime(on == On::one_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double start = now();
  body();
  return now() - start;
}

// Float FMA operations a second, in GFLOP/s: the common yardstick.
double peak(On on) {
  double flops = 0;
  const double spent =
      seconds(on, [&] { flops = cpu::multiply_f32(on == On::one_thread ? 1 : 32 * cpu::Pool::instance().threads()); });
  return flops / spent * 1e-9;
}

// Calls body repeatedly; prints the best rate and the median share of the peak.
template <class Body>
void measure(const char* what, double flops, Body body, On on = On::one_thread) {
  std::vector<double> rates;
  std::vector<double> shares;
  const int turns = std::max(1, static_cast<int>(2e6 / flops));
  for (int sample = 0; sample < 31; ++sample) {
    const double before = peak(on);
    const double spent = seconds(on, [&] {
      for (int turn = 0; turn < turns; ++turn) {
        body();
      }
    });
    const double rate = flops * turns / spent * 1e-9;
    rates.push_back(rate);
    shares.push_back(2 * rate / (before + peak(on)));
  }
  std::sort(rates.begin(), rates.end());
  std::sort(shares.begin(), shares.end());
  std::printf("  %-44s %7.1f GFLOP/s at best %7.1f median", what, rates.back(), rates[rates.size() / 2]);
  if (peak(on) > 0) {
    std::printf("   %.2f of FMA peak", shares[shares.size() / 2]);
  }
  std::printf("\n");
}

void quantised(const cpu::Kernels& kernel, cpu::Dtype dtype, int64_t cols) {
  constexpr int64_t kRows = 256;
  std::vector<uint32_t> codes(kRows * cols / 8 + 2048);
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<uint32_t>(i * 2654435761U);
  }
  const std::vector<float> ones(kRows * cols / 64, 1.0F);
  cpu::Quantized w;
  w.codes = codes.data();
  w.scales = w.biases = ones.data();
  w.rows = kRows;
  w.cols = cols;
  const cpu::Packing packing(w, cpu::terms_of(dtype));
  std::vector<float> x(cols, 1.0F);
  for (int rows = 1; rows <= kernel.tile_rows(packing); ++rows) {
    const std::vector<const void*> from(rows, x.data());
    std::vector<char> tile(kernel.tile_bytes(packing, rows) + 64);
    void* at = tile.data() + (64 - reinterpret_cast<uintptr_t>(tile.data()) % 64);
    kernel.pack(packing, rows, from.data(), cpu::Dtype::f32, at);
    std::vector<float> y(rows * kRows);
    std::array<char, 64> what{};
    std::snprintf(what.data(), what.size(), "multiply K=%d rows=%d %s", static_cast<int>(cols), rows,
                  dtype == cpu::Dtype::bf16  ? "bf16"
                  : dtype == cpu::Dtype::f16 ? "f16"
                                             : "f32");
    measure(what.data(), 2.0 * rows * kRows * static_cast<double>(cols),
            [&] { kernel.multiply(w, packing, 0, kRows, rows, at, y.data(), kRows); });
  }
}

void gated_delta(const cpu::Kernels& kernel, int tokens) {
  constexpr int kDim = 128;
  std::vector<float> x(tokens * kDim, 0.05F);
  std::vector<float> y(tokens * kDim);
  std::vector<float> beta(tokens, 0.5F);
  std::vector<double> g(tokens, 0.9);
  std::vector<float> state(kDim * kDim, 0.1F);
  std::vector<float> scratch(kernel.gated_delta_scratch(kDim, kDim));
  cpu::DeltaHead head{};
  head.tokens = tokens;
  head.dk = head.dv = kDim;
  head.q = head.k = head.v = x.data();
  head.y = y.data();
  head.qk_stride = head.v_stride = head.y_stride = kDim;
  head.g = g.data();
  head.beta = beta.data();
  head.g_stride = head.beta_stride = 1;
  head.state = state.data();
  head.scratch = scratch.data();
  const double flops = 6.0 * kDim * kDim * tokens;  // S k, the update and S q, as token by token
  std::array<char, 64> what{};
  std::snprintf(what.data(), what.size(), "gated delta, token by token, T=%d", tokens);
  measure(what.data(), flops, [&] { kernel.gated_delta_rows(head); });
  std::snprintf(what.data(), what.size(), "gated delta, in chunks, T=%d", tokens);
  measure(what.data(), flops, [&] { kernel.gated_delta_chunks(head); });
}

// One layer of 35B-A3B between its projections, bf16, as gated_delta or as gated_delta_block. Only the rule's own
// operations are counted.
void layer(int tokens, bool with_block) {
  constexpr int kHeads = 16;
  constexpr int kValueHeads = 32;
  constexpr int kDim = 128;
  constexpr int kTaps = 4;
  constexpr int kChannels = (2 * kHeads + kValueHeads) * kDim;
  constexpr uint16_t kTenth = 0x3dcd;  // 0.1 in bf16
  const std::vector<uint16_t> x(static_cast<size_t>(tokens) * kChannels, kTenth);
  std::vector<uint16_t> y(static_cast<size_t>(tokens) * kValueHeads * kDim);
  std::vector<uint16_t> conv_state((kTaps - 1) * kChannels);
  const std::vector<float> ones(kValueHeads * kDim, 1.0F);
  std::vector<float> state(static_cast<size_t>(kValueHeads) * kDim * kDim);
  const int64_t end = tokens;
  cpu::DeltaBlock block{};
  block.qkv = block.z = block.conv_weight = x.data();
  block.conv_dtype = cpu::Dtype::bf16;
  block.width = kTaps;
  block.norm_weight = ones.data();
  block.norm_eps = 1e-6F;
  block.ends = &end;
  block.new_conv_state = conv_state.data();
  cpu::GatedDelta op{};
  op.batch = 1;
  op.tokens = tokens;
  op.k_heads = kHeads;
  op.v_heads = kValueHeads;
  op.dk = op.dv = kDim;
  op.dtype = op.gate_dtype = cpu::Dtype::bf16;
  op.q = op.k = op.v = op.a = op.b = x.data();
  op.A_log = op.dt_bias = ones.data();
  op.state = state.data();
  op.y = y.data();
  op.block = with_block ? &block : nullptr;
  std::array<char, 64> what{};
  std::snprintf(what.data(), what.size(), "gated_delta%s, T=%d, %d threads", with_block ? "_block" : "", tokens,
                cpu::Pool::instance().threads());
  measure(what.data(), 6.0 * kDim * kDim * kValueHeads * tokens, [&] { cpu::gated_delta(op); }, On::all_threads);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> isas(argv + 1, argv + argc);
  if (isas.empty()) {
    isas = cpu::available_isas();
  }
  for (const std::string& isa : isas) {
    cpu::use_isa(isa);
    std::printf("%s\n", isa.c_str());
    for (const int64_t cols : {512, 2048, 4096}) {
      quantised(cpu::kernels(), cpu::Dtype::bf16, cols);
    }
    quantised(cpu::kernels(), cpu::Dtype::f16, 512);
    quantised(cpu::kernels(), cpu::Dtype::f32, 512);
    quantised(cpu::kernels(), cpu::Dtype::f32, 2048);
    for (const int tokens : {1, 8, 12, 16, 64, 256, 512, 2048}) {
      gated_delta(cpu::kernels(), tokens);
    }
    for (const int tokens : {1, 64, 512}) {
      layer(tokens, false);
      layer(tokens, true);
    }
  }
}
