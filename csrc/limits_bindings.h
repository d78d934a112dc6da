// The limits of the machine, for python/deltamoe/measure/limits.py.
#pragma once

#include <nanobind/nanobind.h>

namespace deltamoe {

void bind_limits(nanobind::module_& m);

}  // namespace deltamoe
