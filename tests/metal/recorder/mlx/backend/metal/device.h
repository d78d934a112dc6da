// In place of MLX's header: what csrc/metal/encode.cpp calls, as a record of the calls.
#pragma once

#include <functional>
#include <iostream>
#include <map>
#include <string>

#include "mlx/array.h"
#include "mlx/backend/common/metal_kernel.h"
#include "mlx/stream.h"

namespace MTL {

struct Buffer;

struct Size {
  size_t width, height, depth;
};

struct Library {
  std::string text;
};

struct ComputePipelineState {
  std::string name;
  size_t maxTotalThreadsPerThreadgroup() const { return 64; }
};

}  // namespace MTL

namespace mlx::core::metal {

inline std::map<const void*, std::string> names;  // of buffers

inline const std::string& name_of(const void* buffer) {
  return names.try_emplace(buffer, "temporary " + std::to_string(names.size())).first->second;
}

class CommandEncoder {
 public:
  void set_buffer(const MTL::Buffer* buffer, int index, int64_t offset = 0) {
    std::cout << "set_buffer " << index << " " << name_of(buffer) << " + " << offset << "\n";
  }
  void set_input_array(const array& a, int index) {
    std::cout << "set_input_array " << index << " " << name_of(a.buffer().ptr()) << "\n";
  }
  void set_output_array(array& a, int index) {
    std::cout << "set_output_array " << index << " " << name_of(a.buffer().ptr()) << "\n";
  }
  void add_temporary(const array& a) {
    std::cout << "add_temporary " << name_of(a.buffer().ptr()) << " of " << a.nbytes() << "\n";
  }
  void set_compute_pipeline_state(MTL::ComputePipelineState* kernel) { std::cout << "kernel " << kernel->name << "\n"; }
  void set_bytes(const uint8_t* bytes, int count, int index) {
    std::cout << "set_bytes " << index << " " << std::string(bytes, bytes + count) << "\n";
  }
  void dispatch_threadgroups(MTL::Size grid, MTL::Size group) {
    std::cout << "dispatch " << grid.width << " " << grid.height << " " << grid.depth << " of " << group.width << " "
              << group.height << " " << group.depth << "\n";
  }
};

class Device {
 public:
  int get_architecture_gen() const { return 16; }
  MTL::Library* get_library(const std::string& name, const CompileOptions& options,
                            const std::function<std::string()>& builder) {
    const auto [it, is_new] = libraries_.try_emplace(name);
    if (is_new) {
      it->second.text = builder();
      std::cout << "compile " << name << (options.math_mode == MathMode::Safe ? " safely" : "") << "\n"
                << it->second.text;
    }
    return &it->second;
  }
  MTL::ComputePipelineState* get_kernel(const std::string& name, MTL::Library*) {
    return &kernels_.try_emplace(name, MTL::ComputePipelineState{name}).first->second;
  }

 private:
  std::map<std::string, MTL::Library> libraries_;
  std::map<std::string, MTL::ComputePipelineState> kernels_;
};

inline Device& device(mlx::core::Device) {
  static Device device;
  return device;
}

inline CommandEncoder& get_command_encoder(Stream) {
  static CommandEncoder encoder;
  return encoder;
}

}  // namespace mlx::core::metal
