// All that metal-cpp takes of Apple's header.
#pragma once

#include <TargetConditionals.h>
#include <stdint.h>

typedef double CFTimeInterval;
