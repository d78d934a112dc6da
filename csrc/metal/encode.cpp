#include "metal/encode.h"

#include "metal/sources.h"
#include "mlx/allocator.h"
#include "mlx/backend/metal/device.h"
#include "mlx/backend/metal/metal.h"

namespace deltamoe::metal {

namespace {

MTL::Size size(const plan::Dim& d) { return {d[0], d[1], d[2]}; }

// One library per function, compiled when it is first launched: a model uses few of the instantiations there are, and
// plans for different numbers of tokens share theirs. MLX keeps libraries and pipelines by name.
MTL::ComputePipelineState* pipeline(mx::metal::Device& device, const plan::Dispatch& dispatch) {
  const std::string name = library_name(dispatch.source, dispatch.function);
  mx::CompileOptions options;
  options.math_mode = mx::MathMode::Safe;  // kernels rely on infinities and NaN
  MTL::Library* library =
      device.get_library(name, options, [&] { return library_text(dispatch.source, {dispatch.function}); });
  MTL::ComputePipelineState* kernel = device.get_kernel(plan::kernel_name(dispatch.function), library);
  const size_t threads = size_t{dispatch.threadgroup[0]} * dispatch.threadgroup[1] * dispatch.threadgroup[2];
  if (threads > kernel->maxTotalThreadsPerThreadgroup()) {
    // Metal would not run it, and say so only with its validation on.
    throw std::runtime_error("[deltamoe] " + dispatch.function + " is planned with " + std::to_string(threads) +
                             " threads a threadgroup, and this GPU can give it " +
                             std::to_string(kernel->maxTotalThreadsPerThreadgroup()) + ".");
  }
  return kernel;
}

// An input. Command buffers do not retain what they read, but MLX keeps the inputs of a primitive until the command
// buffer that reads them is done; meanwhile it donates their memory to nobody.
//
// If the input was there before this graph was built (`make` has looked), nothing that is still to run writes it: all
// the hazard tracking of set_input_array would find is nothing. set_buffer leaves it out, and with it the charge on the
// command buffer's budget of bytes, which counts whole arrays: a stack of experts of which a token reads a few would
// end a command buffer every few dispatches. Wrong for an array of status `evaluated`: that may have been encoded a
// moment ago, in this very encoder, and set_buffer puts no barrier between.
void set_input(mx::metal::CommandEncoder& encoder, const mx::array& input, int index) {
  if (input.status() == mx::array::Status::available) {
    encoder.set_buffer(static_cast<const MTL::Buffer*>(input.buffer().ptr()), index, input.offset());
  } else {
    encoder.set_input_array(input, index);
  }
}

}  // namespace

bool available() { return mx::metal::is_available(); }

plan::Device device() {
  // Apple's generations of the architecture: g13 is M1, g14 M2, g15 M3, g16 M4, g17 M5.
  switch (mx::metal::device(mx::Device::gpu).get_architecture_gen()) {
    case 13:
      return {7};
    case 14:
      return {8};
    case 15:
    case 16:
      return {9};
    case 17:
      return {10};
    default:
      return {};
  }
}

void encode(const plan::Plan& plan, mx::Stream stream, const std::vector<mx::array>& inputs,
            std::vector<mx::array>& outputs) {
  mx::metal::Device& device = mx::metal::device(stream.device);
  mx::metal::CommandEncoder& encoder = mx::metal::get_command_encoder(stream);

  std::vector<mx::array> temporaries;
  for (const size_t bytes : plan.temporaries) {
    const int words = static_cast<int>(plan::ceil_div(bytes, sizeof(uint32_t)));
    mx::array& each = temporaries.emplace_back(mx::Shape{words}, mx::uint32, nullptr, std::vector<mx::array>{});
    each.set_data(mx::allocator::malloc(bytes));
    encoder.add_temporary(each);  // nobody else holds it until the command buffer is done
  }

  for (const plan::Dispatch& dispatch : plan.dispatches) {
    encoder.set_compute_pipeline_state(pipeline(device, dispatch));
    for (int i = 0; i < static_cast<int>(dispatch.buffers.size()); ++i) {
      const plan::Operand& operand = dispatch.buffers[i];
      switch (operand.kind) {
        case plan::Operand::Kind::input:
          set_input(encoder, inputs[operand.index], i);
          break;
        // Read, written or both: set_output_array tracks both. So a dispatch waits for those before it that touch the
        // same output or temporary, which is what a plan promises; MLX's encoder lets others run side by side.
        case plan::Operand::Kind::output:
          encoder.set_output_array(outputs[operand.index], i);
          break;
        case plan::Operand::Kind::temporary:
          encoder.set_output_array(temporaries[operand.index], i);
          break;
        case plan::Operand::Kind::bytes:  // a copy, in the command itself
          encoder.set_bytes(operand.bytes.data(), static_cast<int>(operand.bytes.size()), i);
          break;
        case plan::Operand::Kind::none:  // something, as Metal's validation wants it
          set_input(encoder, inputs[0], i);
          break;
      }
    }
    encoder.dispatch_threadgroups(size(dispatch.grid), size(dispatch.threadgroup));
  }
}

}  // namespace deltamoe::metal
