#include "router.h"

template [[host_name(
    "moe_router_bfloat_8_true")]] [[kernel]] decltype(moe_router<bfloat, 8, true>) moe_router<bfloat, 8, true>;
template [[host_name(
    "moe_router_bfloat_16_true")]] [[kernel]] decltype(moe_router<bfloat, 16, true>) moe_router<bfloat, 16, true>;
