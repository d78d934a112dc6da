// Which instruction sets this build holds and this CPU runs, and which one is in use.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deltamoe::cpu {

std::vector<std::string> available_isas();  // worst first
std::string isa();                          // in use
void use_isa(std::string_view name);        // throws std::invalid_argument if it cannot run here

}  // namespace deltamoe::cpu
