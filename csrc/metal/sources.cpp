#include "metal/sources.h"

#include <stdexcept>

#include "plan/plan.h"

namespace deltamoe::metal {

namespace {

const Source& find(const std::string& source) {
  const auto it = kSources.find(source);
  if (it == kSources.end()) {
    throw std::invalid_argument("[deltamoe] no shader source " + source + " in metal/.");
  }
  return it->second;
}

}  // namespace

std::string library_text(const std::string& source, const std::vector<std::string>& functions) {
  std::string text = find(source).text;
  for (const std::string& function : functions) {
    text.append("template [[host_name(\"").append(plan::kernel_name(function)).append("\")]] [[kernel]] decltype(");
    text.append(function).append(") ").append(function).append(";\n");
  }
  return text;
}

std::string library_name(const std::string& source, const std::string& function) {
  return "deltamoe " + find(source).digest + " " + function;
}

}  // namespace deltamoe::metal
