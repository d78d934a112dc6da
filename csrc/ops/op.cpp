#include "ops/op.h"

#include <cstring>

#include "metal/encode.h"
#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/scheduler.h"

namespace deltamoe {

namespace {

// Copy an array of any strides into row-contiguous memory.
void gather(const char* from, char* to, size_t itemsize, const mx::Shape& shape, const mx::Strides& strides) {
  const auto ndim = static_cast<int>(shape.size());
  std::vector<int> at(ndim, 0);
  const int64_t inner = ndim ? shape[ndim - 1] : 1;
  const int64_t step = ndim ? strides[ndim - 1] * static_cast<int64_t>(itemsize) : 0;
  while (true) {
    const char* row = from;
    for (int d = 0; d + 1 < ndim; ++d) {
      row += at[d] * strides[d] * static_cast<int64_t>(itemsize);
    }
    if (step == static_cast<int64_t>(itemsize)) {
      std::memcpy(to, row, inner * itemsize);
      to += inner * itemsize;
    } else {
      for (int64_t i = 0; i < inner; ++i, to += itemsize) {
        std::memcpy(to, row + i * step, itemsize);
      }
    }
    int d = ndim - 2;
    while (d >= 0 && ++at[d] == shape[d]) {
      at[d--] = 0;
    }
    if (d < 0) {
      return;
    }
  }
}

mx::array contiguous(const mx::array& a, mx::cpu::CommandEncoder& encoder) {
  if (a.flags().row_contiguous || a.size() == 0) {
    return a;
  }
  mx::array copy(a.shape(), a.dtype(), nullptr, {});
  copy.set_data(mx::allocator::malloc(copy.nbytes()));
  encoder.dispatch([from = a.data<char>(), to = copy.data<char>(), itemsize = a.itemsize(), shape = a.shape(),
                    strides = a.strides()] { gather(from, to, itemsize, shape, strides); });
  encoder.add_temporary(copy);
  return copy;
}

}  // namespace

void allocate(const Arrays& inputs, Arrays& outputs, const std::vector<Output>& wanted) {
  // Each output of a node holds its own copy of the inputs, and MLX lets go of all of them right after this. Done now,
  // an input that nobody else holds counts as donatable also where there are several outputs.
  for (mx::array& output : outputs) {
    if (!output.is_tracer() && &output.inputs() != &inputs) {
      output.inputs().clear();
    }
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    const int donor = wanted[i].donor;
    // Safe because nobody else holds the donor, and a task or kernel reads its part of it before it writes there. Where
    // a GPU still has to read it for another op, MLX holds it.
    if (donor >= 0 && inputs[donor].flags().row_contiguous && inputs[donor].is_donatable() &&
        inputs[donor].nbytes() == outputs[i].nbytes()) {
      outputs[i].copy_shared_buffer(inputs[donor]);
    } else {
      outputs[i].set_data(mx::allocator::malloc(outputs[i].nbytes()));
    }
  }
}

Arrays begin(mx::Stream stream, const Arrays& inputs, Arrays& outputs, const std::vector<Output>& wanted,
             bool strided) {
  auto& encoder = mx::cpu::get_command_encoder(stream);
  allocate(inputs, outputs, wanted);
  Arrays ready;  // after the donations: it holds the inputs
  for (const mx::array& input : inputs) {
    ready.push_back(strided ? input : contiguous(input, encoder));
    encoder.set_input_array(ready.back());
  }
  for (mx::array& output : outputs) {
    encoder.set_output_array(output);
  }
  return ready;
}

void Planned::eval_gpu(const Arrays& inputs, Arrays& outputs) {
  const std::optional<plan::Plan> plan = this->plan(inputs, metal::device());
  if (!plan) {  // make() saw one; a function compiled as shapeless has been given other shapes since
    throw std::runtime_error(std::string("[") + name() + "] Metal has no kernel for these shapes. Compile with them.");
  }
  allocate(inputs, outputs, wanted(inputs));
  metal::encode(*plan, stream(), inputs, outputs);
}

bool has_metal_plan(const Planned& op, const Arrays& inputs) {
  return metal::available() && op.plan(inputs, metal::device()).has_value();
}

Arrays settle(const Arrays& inputs, mx::Stream stream) {
  Arrays settled;
  for (const mx::array& input : inputs) {
    // is_available() is asked here because its answer lasts, as the array's status, which metal::encode goes by. During
    // an evaluation it would say yes to an array that has just been encoded.
    const bool ready = input.is_available() && input.flags().row_contiguous;
    settled.push_back(ready ? input : mx::contiguous(input, false, stream));  // a copy only of what is not contiguous
  }
  return settled;
}

// Past the encoder: it counts every tenth task, and loses count when that one throws.
void dispatch(mx::Stream stream, Task task) { mx::scheduler::enqueue(stream, std::move(task)); }

}  // namespace deltamoe
