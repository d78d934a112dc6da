// Where MLX is built without Metal.
#include <stdexcept>

#include "metal/encode.h"

namespace deltamoe::metal {

bool available() { return false; }

plan::Device device() { return {}; }

void encode(const plan::Plan&, mx::Stream, const std::vector<mx::array>&, std::vector<mx::array>&) {
  throw std::logic_error("[deltamoe] a plan for Metal, and this MLX has none.");
}

}  // namespace deltamoe::metal
