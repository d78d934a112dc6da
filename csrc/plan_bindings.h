// What tests see of plans and shaders.
#pragma once

#include <nanobind/nanobind.h>

namespace deltamoe {

void bind_plans(nanobind::module_& m);

}  // namespace deltamoe
