#include "plan/delta.h"

namespace deltamoe::plan {

namespace {

struct Sizes {  // DeltaSizes of metal/common/delta.h
  uint32_t tokens;
  uint32_t first, last;
  uint32_t k_heads, v_heads;
  uint32_t q_at, k_at, v_at;
  uint32_t q_row, k_row, v_row;
  uint32_t snapshots;
  float norm_eps;
};

Sizes sizes(const DeltaShape& shape, uint32_t first, uint32_t last) {
  const uint32_t keys = shape.k_heads * shape.dk;
  const uint32_t values = shape.v_heads * shape.dv;
  const bool block = shape.taps > 0;
  const uint32_t channels = 2 * keys + values;
  return {
      .tokens = shape.tokens,
      .first = first,
      .last = last,
      .k_heads = shape.k_heads,
      .v_heads = shape.v_heads,
      .q_at = 0,
      .k_at = block ? keys : 0,
      .v_at = block ? 2 * keys : 0,
      .q_row = block ? channels : keys,
      .k_row = block ? channels : keys,
      .v_row = block ? channels : values,
      .snapshots = shape.snapshots,
      .norm_eps = shape.norm_eps,
  };
}

}  // namespace

std::vector<Operand> delta_buffers(const DeltaShape& shape, uint32_t first, uint32_t last) {
  const bool block = shape.taps > 0;
  std::vector<Operand> buffers;  // q, k, v, z; a, b, A_log, dt_bias; conv_weight, norm_weight
  if (block) {
    buffers = {input(0), input(0), input(0), input(1), input(2), input(3), input(5), input(6), input(4), input(7)};
  } else {
    buffers = {input(0), input(1), input(2), none(), input(3), input(4), input(5), input(6), none(), none()};
  }
  uint32_t next = block ? 8 : 7;
  for (const bool present : {shape.conv_state, shape.state, shape.mask, shape.lengths}) {
    buffers.push_back(present ? input(next++) : none());
  }
  buffers.push_back(output(0));
  buffers.push_back(block ? output(1) : none());
  buffers.push_back(output(block ? 2 : 1));
  buffers.push_back(bytes(sizes(shape, first, last)));
  return buffers;
}

std::string delta_function(const char* kernel, const DeltaShape& shape, const std::vector<uint32_t>& numbers) {
  const bool block = shape.taps > 0;
  std::string types;  // of what is not there, the one that makes no further instantiation
  for (const Type type : {shape.type, shape.gates, shape.A_log, shape.dt_bias, block ? shape.conv : shape.type,
                          block ? shape.norm : shape.type}) {
    types += (types.empty() ? "" : ", ") + std::string(name(type));
  }
  std::string form = std::to_string(shape.taps);
  for (const bool flag :
       {shape.state, shape.conv_state, shape.mask, shape.lengths, shape.allow_neg_eigval, shape.channel_gate}) {
    form += flag ? ", true" : ", false";
  }
  std::string text = std::string(kernel) + "<DeltaTypes<" + types + ">, DeltaForm<" + form + ">";
  for (const uint32_t number : numbers) {
    text += ", " + std::to_string(number);
  }
  return text + ">";
}

}  // namespace deltamoe::plan
