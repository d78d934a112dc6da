// Runs one op of csrc/cpu on arrays from a file and writes its results to another: runner REQUEST REPLY. The file
// format is described in tests/backends.py. Free of MLX and Python, so that it can be built for any machine and run
// under an emulator.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/ops.h"

namespace cpu = deltamoe::cpu;

namespace {

struct Array {
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<char> data;

  int64_t dim(int i) const { return shape.at(i < 0 ? i + shape.size() : i); }
  int64_t size() const {
    int64_t n = 1;
    for (const int64_t d : shape) {
      n *= d;
    }
    return n;
  }
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(data.data());
  }
  template <class T>
  const T* as() const {
    return reinterpret_cast<const T*>(data.data());
  }
  cpu::Dtype type() const {
    return dtype == "float32" ? cpu::Dtype::f32 : dtype == "float16" ? cpu::Dtype::f16 : cpu::Dtype::bf16;
  }
};

size_t itemsize(const std::string& dtype) {
  if (dtype == "bool" || dtype == "uint8" || dtype == "int8") {
    return 1;
  }
  if (dtype == "int64" || dtype == "uint64") {
    return 8;
  }
  return dtype == "float16" || dtype == "bfloat16" || dtype == "int16" || dtype == "uint16" ? 2 : 4;
}

Array make(const std::string& dtype, std::vector<int64_t> shape) {
  Array a{dtype, std::move(shape), {}};
  a.data.assign(a.size() * itemsize(dtype), '\x7f');  // 3.4e38 as floats: what is not written shows
  return a;
}

struct Request {
  std::string op;
  std::map<std::string, Array> arrays;

  bool has(const std::string& name) const { return arrays.count(name) != 0; }
  const Array& at(const std::string& name) const {
    const auto found = arrays.find(name);
    if (found == arrays.end()) {
      throw std::invalid_argument("the request lacks " + name);
    }
    return found->second;
  }
  int number(const std::string& name, int otherwise = 0) const {
    return !has(name) ? otherwise : at(name).dtype == "bool" ? *at(name).as<bool>() : *at(name).as<int32_t>();
  }
  float real(const std::string& name, float otherwise = 0) const {
    return has(name) ? *at(name).as<float>() : otherwise;
  }
  // As floats, whatever the dtype.
  std::vector<float> floats(const std::string& name) const {
    const Array& a = at(name);
    std::vector<float> values(a.size());
    for (int64_t i = 0; i < a.size(); ++i) {
      if (a.dtype == "float32") {
        values[i] = a.as<float>()[i];
      } else if (a.dtype == "bfloat16") {
        const uint32_t u = static_cast<uint32_t>(a.as<uint16_t>()[i]) << 16;
        std::memcpy(&values[i], &u, sizeof(u));
      } else {
        values[i] = static_cast<float>(a.as<__fp16>()[i]);
      }
    }
    return values;
  }
  std::vector<int64_t> integers(const std::string& name) const {
    const Array& a = at(name);
    const bool is_signed = a.dtype[0] == 'i';
    switch (itemsize(a.dtype)) {
      case 1:
        return is_signed ? widened<int8_t>(a) : widened<uint8_t>(a);
      case 2:
        return is_signed ? widened<int16_t>(a) : widened<uint16_t>(a);
      case 4:
        return is_signed ? widened<int32_t>(a) : widened<uint32_t>(a);
      default:
        return widened<int64_t>(a);
    }
  }
  template <class T>
  static std::vector<int64_t> widened(const Array& a) {
    return {a.as<T>(), a.as<T>() + a.size()};
  }
  cpu::Quantized quantized(const std::string& name, int64_t cols) const {
    cpu::Quantized w;
    const Array& codes = at(name + ".weight");
    const Array& scales = at(name + ".scales");
    w.codes = codes.data.data();
    w.scales = scales.data.data();
    w.biases = at(name + ".biases").data.data();
    w.dtype = scales.type();
    w.rows = codes.dim(-2);
    w.cols = cols;
    w.bits = static_cast<int>(codes.dim(-1) * 32 / cols);
    w.group = static_cast<int>(cols / scales.dim(-1));
    return w;
  }
  cpu::Mlp mlp(const std::string& gate, const std::string& up, const std::string& down, int64_t hidden) const {
    cpu::Mlp m;
    m.gate = quantized(gate, hidden);
    m.up = quantized(up, hidden);
    m.down = quantized(down, m.gate.rows);
    return m;
  }
};

using Results = std::vector<Array>;

std::vector<int64_t> with_last(std::vector<int64_t> shape, int64_t n) {
  shape.back() = n;
  return shape;
}

Results qlinear(const Request& r) {
  const Array& x = r.at("x");
  const cpu::Quantized w = r.quantized("w", x.dim(-1));
  Results out{make(x.dtype, with_last(x.shape, w.rows))};
  cpu::qlinear(x.data.data(), x.type(), x.size() / w.cols, w, out[0].data.data());
  return out;
}

Results moe_router(const Request& r) {
  const Array& logits = r.at("logits");
  const int k = r.number("k");
  Results out{make("uint32", with_last(logits.shape, k)), make("float32", with_last(logits.shape, k))};
  cpu::moe_router(logits.data.data(), logits.type(), logits.size() / logits.dim(-1), static_cast<int>(logits.dim(-1)),
                  k, r.number("normalize", 1) != 0, out[0].as<uint32_t>(), out[1].as<float>());
  return out;
}

Results moe_experts(const Request& r) {
  const Array& x = r.at("x");
  const int64_t hidden = x.dim(-1);
  const std::vector<int64_t> indices = r.integers("indices");
  const std::vector<float> scores = r.floats("scores");
  Results out{make(x.dtype, x.shape)};
  cpu::MoeExperts op{};
  op.x = x.data.data();
  op.dtype = x.type();
  op.tokens = x.size() / hidden;
  op.indices = indices.data();
  op.scores = scores.data();
  op.k = static_cast<int>(r.at("indices").dim(-1));
  op.experts = r.at("gate.weight").dim(0);
  op.routed = r.mlp("gate", "up", "down", hidden);
  cpu::Mlp shared;
  if (r.has("shared.0.weight")) {
    shared = r.mlp("shared.0", "shared.1", "shared.2", hidden);
    op.shared = &shared;
  }
  cpu::Quantized gate;
  if (r.has("shared_gate.weight")) {
    gate = r.quantized("shared_gate", hidden);
    op.shared_gate = &gate;
  }
  op.y = out[0].data.data();
  cpu::moe_experts(op);
  return out;
}

Results rms_norm(const Request& r) {
  const Array& x = r.at("x");
  const std::vector<float> weight = r.has("weight") ? r.floats("weight") : std::vector<float>();
  Results out{make(x.dtype, x.shape)};
  const int64_t n = x.dim(-1);
  cpu::rms_norm(x.data.data(), x.type(), n ? x.size() / n : 0, n, weight.empty() ? nullptr : weight.data(),
                r.real("eps"), out[0].data.data());
  return out;
}

Results attention(const Request& r) {
  const Array& q = r.at("q");
  const Array& k = r.at("k");
  Results out{make(q.dtype, {q.dim(0), q.dim(2), q.dim(1) * q.dim(3)})};
  cpu::Attention op{};
  op.batch = q.dim(0);
  op.q_heads = static_cast<int>(q.dim(1));
  op.tokens = q.dim(2);
  op.dim = static_cast<int>(q.dim(3));
  op.kv_heads = static_cast<int>(k.dim(1));
  op.keys = k.dim(2);
  op.dtype = q.type();
  op.q = q.data.data();
  op.k = k.data.data();
  op.v = r.at("v").data.data();
  const auto strides = [](const Array& a, int64_t* to, int n) {
    int64_t stride = 1;
    for (int i = n - 1; i >= 0; --i) {
      to[i] = stride;
      stride *= a.dim(i);
    }
  };
  strides(q, op.q_strides, 4);
  strides(k, op.k_strides, 4);
  strides(k, op.v_strides, 4);
  if (r.has("gate")) {
    op.gate = r.at("gate").data.data();
    strides(r.at("gate"), op.gate_strides, 3);
  }
  op.scale = r.real("scale");
  op.causal = r.number("causal", 1) != 0;
  op.y = out[0].data.data();
  cpu::attention(op);
  return out;
}

// The gated delta rule, with the block around it if there is a convolution.
Results gated_delta(const Request& r) {
  const bool block = r.op == "gated_delta_block";
  const Array& x = r.at(block ? "qkv" : "q");
  const Array& v = r.at(block ? "z" : "v");
  cpu::GatedDelta op{};
  op.batch = v.dim(0);
  op.tokens = v.dim(1);
  op.v_heads = static_cast<int>(v.dim(2));
  op.dv = static_cast<int>(v.dim(3));
  op.k_heads = block ? r.number("num_k_heads") : static_cast<int>(x.dim(2));
  op.dk = static_cast<int>(block ? (x.dim(2) - v.dim(2) * v.dim(3)) / (2 * op.k_heads) : x.dim(3));
  op.dtype = x.type();
  const Array& a = r.at("a");
  op.a = a.data.data();
  op.b = r.at("b").data.data();
  op.gate_dtype = a.type();
  op.channel_gate = a.shape.size() == 4;
  op.allow_neg_eigval = r.number("allow_neg_eigval") != 0;
  const int snapshots = r.number("snapshots", 0);
  op.snapshots = std::max(snapshots, 1);
  const std::vector<float> A_log = r.floats("A_log");
  const std::vector<float> dt_bias = r.floats("dt_bias");
  op.A_log = A_log.data();
  op.dt_bias = dt_bias.data();

  std::vector<int64_t> ends(op.batch, op.tokens);
  Array mask = make("bool", {op.batch, op.tokens});
  std::fill(mask.data.begin(), mask.data.end(), 1);
  if (r.has("mask")) {
    mask = r.at("mask");
  }
  if (r.has("lengths")) {
    ends = r.integers("lengths");
    for (int64_t b = 0; b < op.batch; ++b) {
      ends[b] = std::clamp<int64_t>(ends[b], 0, op.tokens);
      std::fill(mask.data.begin() + b * op.tokens + ends[b], mask.data.begin() + (b + 1) * op.tokens, 0);
    }
  }
  if (r.has("mask") || r.has("lengths")) {
    op.mask = mask.as<bool>();
  }

  Results out{make(x.dtype, v.shape)};
  op.y = out[0].data.data();
  cpu::DeltaBlock conv{};
  std::vector<float> norm_weight;
  if (block) {
    const int64_t width = r.at("conv_weight").dim(1);
    out.push_back(make(x.dtype, {op.batch, width - 1 + op.snapshots - 1, x.dim(2)}));
    norm_weight = r.floats("norm_weight");
    op.block = &conv;
    conv.qkv = x.data.data();
    conv.z = v.data.data();
    conv.conv_state = r.has("conv_state") ? r.at("conv_state").data.data() : nullptr;
    conv.conv_weight = r.at("conv_weight").data.data();
    conv.conv_dtype = r.at("conv_weight").type();
    conv.width = static_cast<int>(width);
    conv.norm_weight = norm_weight.data();
    conv.norm_eps = r.real("norm_eps", 1e-6F);
    conv.ends = ends.data();
    conv.new_conv_state = out[1].data.data();
  } else {
    op.q = x.data.data();
    op.k = r.at("k").data.data();
    op.v = v.data.data();
  }
  op.state_in = r.has("state") ? r.at("state").as<float>() : nullptr;
  std::vector<int64_t> state{op.batch, op.v_heads, op.dv, op.dk};
  if (snapshots > 0) {
    state.insert(state.begin() + 1, snapshots);
  }
  out.push_back(make("float32", state));
  op.state = out.back().as<float>();
  cpu::gated_delta(op);
  return out;
}

Request read(const char* path) {
  std::ifstream in(path, std::ios::binary);
  Request r;
  std::string line;
  std::getline(in, r.op);
  std::getline(in, line);
  std::vector<std::string> names;
  for (int n = std::stoi(line); n > 0; --n) {
    std::getline(in, line);
    std::istringstream words(line);
    std::string name;
    Array a;
    size_t ndim = 0;
    words >> name >> a.dtype >> ndim;
    a.shape.resize(ndim);
    for (int64_t& d : a.shape) {
      words >> d;
    }
    a.data.resize(a.size() * itemsize(a.dtype));
    names.push_back(name);
    r.arrays[name] = std::move(a);
  }
  for (const std::string& name : names) {
    in.read(r.arrays[name].data.data(), static_cast<std::streamsize>(r.arrays[name].data.size()));
  }
  if (!in) {
    throw std::runtime_error(std::string("cannot read ") + path);
  }
  return r;
}

void write(const char* path, const std::string& op, const std::map<std::string, Array>& arrays) {
  std::ofstream out(path, std::ios::binary);
  out << op << "\n" << arrays.size() << "\n";
  for (const auto& [name, a] : arrays) {
    out << name << " " << a.dtype << " " << a.shape.size();
    for (const int64_t d : a.shape) {
      out << " " << d;
    }
    out << "\n";
  }
  for (const auto& [name, a] : arrays) {
    out.write(a.data.data(), static_cast<std::streamsize>(a.data.size()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: runner REQUEST REPLY\n";
    return 2;
  }
  try {
    const std::map<std::string, Results (*)(const Request&)> ops = {
        {"qlinear", qlinear},         {"moe_router", moe_router},         {"moe_experts", moe_experts},
        {"gated_delta", gated_delta}, {"gated_delta_block", gated_delta}, {"rms_norm", rms_norm},
        {"attention", attention}};
    const Request request = read(argv[1]);
    const auto op = ops.find(request.op);
    if (op == ops.end()) {
      throw std::invalid_argument("there is no op " + request.op);
    }
    std::map<std::string, Array> reply;
    Results results = op->second(request);
    for (size_t i = 0; i < results.size(); ++i) {
      reply[std::to_string(i)] = std::move(results[i]);
    }
    write(argv[2], request.op, reply);
  } catch (const std::out_of_range& e) {
    write(argv[2], std::string("RuntimeError ") + e.what(), {});
  } catch (const std::invalid_argument& e) {
    write(argv[2], std::string("ValueError ") + e.what(), {});
  }
  return 0;
}
