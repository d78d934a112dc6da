// The shaders as text: what Metal's compiler is given at run time, and the simulator in tests.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace deltamoe::metal {

struct Source {
  std::string digest;  // of the text
  std::string text;    // a header of metal/ with its includes in their place; it holds templates only
};

// By path in metal/, without ending: "moe/decode". Made by embed.py.
extern const std::map<std::string, Source> kSources;

// The text of a library of these functions: "moe_gate_up<bfloat, 64, 4>" instantiates that template under that name.
std::string library_text(const std::string& source, const std::vector<std::string>& functions);

// A name that no library with another text has.
std::string library_name(const std::string& source, const std::string& function);

}  // namespace deltamoe::metal
