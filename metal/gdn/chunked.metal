#include "chunked.h"

template [[host_name("gated_delta_prepare_16")]]
[[kernel]] decltype(gated_delta_prepare<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                                        DeltaForm<4, true, true, false, false>,
                                        128,
                                        16>)
    gated_delta_prepare<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                        DeltaForm<4, true, true, false, false>,
                        128,
                        16>;
template [[host_name("gated_delta_chunked_16")]]
[[kernel]] decltype(gated_delta_chunked<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                                        DeltaForm<4, true, true, false, false>,
                                        128,
                                        128,
                                        16>)
    gated_delta_chunked<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                        DeltaForm<4, true, true, false, false>,
                        128,
                        128,
                        16>;
template [[host_name("gated_delta_prepare_32")]]
[[kernel]] decltype(gated_delta_prepare<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                                        DeltaForm<4, true, true, false, false>,
                                        128,
                                        32>)
    gated_delta_prepare<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                        DeltaForm<4, true, true, false, false>,
                        128,
                        32>;
template [[host_name("gated_delta_chunked_32")]]
[[kernel]] decltype(gated_delta_chunked<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                                        DeltaForm<4, true, true, false, false>,
                                        128,
                                        128,
                                        32>)
    gated_delta_chunked<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                        DeltaForm<4, true, true, false, false>,
                        128,
                        128,
                        32>;
template [[host_name("gated_delta_prepare_64")]]
[[kernel]] decltype(gated_delta_prepare<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                                        DeltaForm<4, true, true, false, false>,
                                        128,
                                        64>)
    gated_delta_prepare<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                        DeltaForm<4, true, true, false, false>,
                        128,
                        64>;
template [[host_name("gated_delta_chunked_64")]]
[[kernel]] decltype(gated_delta_chunked<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                                        DeltaForm<4, true, true, false, false>,
                                        128,
                                        128,
                                        64>)
    gated_delta_chunked<DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>,
                        DeltaForm<4, true, true, false, false>,
                        128,
                        128,
                        64>;
