// All that metal-cpp takes of Apple's header.
#pragma once

typedef struct __IOSurface* IOSurfaceRef;
