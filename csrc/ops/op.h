// One MLX primitive for all ops. An op is a Spec: its parameters, its shapes, its CPU task, and its twin in plain MLX
// ops.
//
//   struct Spec {
//     static constexpr const char* name;
//     bool operator==(const Spec&) const = default;                          // of the parameters
//     std::vector<Output> outputs(const Arrays& inputs) const;               // shapes and dtypes
//     Task task(const Arrays& inputs, Arrays& outputs) const;                // inputs are row-contiguous
//     Arrays twin(const Arrays& inputs, mx::Stream) const;                   // what vjp differentiates
//     Arrays dense_twin(const Arrays& inputs, mx::Stream) const;             // optional: what jvp differentiates
//     static constexpr bool strided = true;                                  // optional: task takes any strides
//     std::optional<plan::Plan> plan(const Arrays& inputs, plan::Device) const;  // optional: what Metal runs, if any
//   };
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "mlx/mlx.h"
#include "mlx/primitives.h"
#include "plan/plan.h"

namespace deltamoe {

namespace mx = mlx::core;
using Arrays = std::vector<mx::array>;
using Task = std::function<void()>;

struct Output {
  mx::Shape shape;
  mx::Dtype dtype;
  int donor = -1;  // an input of the same shape and dtype whose memory it may take over
};

// Gives every output its memory: its donor's if nobody else holds that, or else its own.
void allocate(const Arrays& inputs, Arrays& outputs, const std::vector<Output>& wanted);

// On the CPU: gives every output its memory, makes the inputs row-contiguous unless `strided`, and returns them.
Arrays begin(mx::Stream stream, const Arrays& inputs, Arrays& outputs, const std::vector<Output>& wanted, bool strided);
void dispatch(mx::Stream stream, Task task);

// A primitive that Metal may have a plan for.
class Planned : public mx::Primitive {
 public:
  using mx::Primitive::Primitive;
  virtual std::optional<plan::Plan> plan(const Arrays& inputs, plan::Device device) const = 0;
  virtual std::vector<Output> wanted(const Arrays& inputs) const = 0;
  void eval_gpu(const Arrays& inputs, Arrays& outputs) override;
};

bool has_metal_plan(const Planned& op, const Arrays& inputs);
// The inputs as kernels on a GPU take them: row-contiguous.
Arrays settle(const Arrays& inputs, mx::Stream stream);

template <class Spec>
class Op;

// The op on a device that has a kernel for it, its twin elsewhere.
template <class Spec>
Arrays make(const Spec& spec, const Arrays& inputs, mx::Stream stream) {
  std::vector<Output> outputs = spec.outputs(inputs);  // checks what its shapes rest on
  auto op = std::make_shared<Op<Spec>>(stream, spec);
  const bool on_cpu = stream.device == mx::Device::cpu;
  if (!on_cpu && !has_metal_plan(*op, inputs)) {
    return spec.twin(inputs, stream);
  }
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> dtypes;
  for (Output& output : outputs) {
    shapes.push_back(std::move(output.shape));
    dtypes.push_back(output.dtype);
  }
  return mx::array::make_arrays(std::move(shapes), dtypes, op, on_cpu ? inputs : settle(inputs, stream));
}

template <class Spec>
class Op : public Planned {
 public:
  Op(mx::Stream stream, Spec spec) : Planned(stream), spec_(std::move(spec)) {}

  const char* name() const override { return Spec::name; }

  bool is_equivalent(const mx::Primitive& other) const override { return spec_ == static_cast<const Op&>(other).spec_; }

  std::vector<mx::Shape> output_shapes(const Arrays& inputs) override {
    std::vector<mx::Shape> shapes;
    for (Output& output : wanted(inputs)) {
      shapes.push_back(std::move(output.shape));
    }
    return shapes;
  }

  std::vector<Output> wanted(const Arrays& inputs) const override { return spec_.outputs(inputs); }

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    constexpr bool strided = requires { Spec::strided; };
    const Arrays ready = begin(stream(), inputs, outputs, wanted(inputs), strided);
    dispatch(stream(), spec_.task(ready, outputs));
  }

  std::optional<plan::Plan> plan(const Arrays& inputs, plan::Device device) const override {
    if constexpr (requires { spec_.plan(inputs, device); }) {
      return spec_.plan(inputs, device);
    } else {
      return std::nullopt;
    }
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums, const Arrays&) override {
    return mx::vjp(of(primals, argnums, &Op::twin), pick(primals, argnums), cotangents).second;
  }

  Arrays jvp(const Arrays& primals, const Arrays& tangents, const std::vector<int>& argnums) override {
    return mx::jvp(of(primals, argnums, &Op::dense_twin), pick(primals, argnums), tangents).second;
  }

  // One call per element of the mapped axis, stacked: each runs the kernel.
  std::pair<Arrays, std::vector<int>> vmap(const Arrays& inputs, const std::vector<int>& axes) override {
    int count = -1;
    for (size_t i = 0; i < inputs.size(); ++i) {
      count = axes[i] >= 0 ? inputs[i].shape(axes[i]) : count;
    }
    if (count < 1) {
      throw std::invalid_argument(std::string("[") + Spec::name + "] vmap over an axis of length 0 is not supported.");
    }
    std::vector<Arrays> columns;
    for (int n = 0; n < count; ++n) {
      Arrays one = inputs;
      for (size_t i = 0; i < inputs.size(); ++i) {
        if (axes[i] >= 0) {
          one[i] = mx::take(inputs[i], n, axes[i], stream());
        }
      }
      const Arrays results = make(spec_, one, stream());
      columns.resize(results.size());
      for (size_t j = 0; j < results.size(); ++j) {
        columns[j].push_back(results[j]);
      }
    }
    Arrays stacked;
    for (const Arrays& column : columns) {
      stacked.push_back(mx::stack(column, 0, stream()));
    }
    return {stacked, std::vector<int>(stacked.size(), 0)};
  }

 private:
  Spec spec_;

  Arrays twin(const Arrays& inputs) { return spec_.twin(inputs, stream()); }
  Arrays dense_twin(const Arrays& inputs) {
    if constexpr (requires { spec_.dense_twin(inputs, stream()); }) {
      return spec_.dense_twin(inputs, stream());
    } else {
      return spec_.twin(inputs, stream());
    }
  }

  // The twin as a function of the arguments `argnums` alone.
  std::function<Arrays(const Arrays&)> of(const Arrays& primals, const std::vector<int>& argnums,
                                          Arrays (Op::*twin)(const Arrays&)) {
    return [this, primals, argnums, twin](const Arrays& chosen) {
      Arrays inputs = primals;
      for (size_t i = 0; i < argnums.size(); ++i) {
        inputs[argnums[i]] = chosen[i];
      }
      return (this->*twin)(inputs);
    };
  }

  static Arrays pick(const Arrays& arrays, const std::vector<int>& which) {
    Arrays picked;
    for (int i : which) {
      picked.push_back(arrays[i]);
    }
    return picked;
  }
};

}  // namespace deltamoe
