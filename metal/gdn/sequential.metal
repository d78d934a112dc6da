#include "sequential.h"

using Bfloats = DeltaTypes<bfloat, bfloat, float, bfloat, bfloat, bfloat>;
using Step = DeltaForm<4, true, true, false, false>;
using Prompt = DeltaForm<4, false, false, false, false>;

template
    [[host_name("gated_delta_sequential_step")]] [[kernel]] decltype(gated_delta_sequential<Bfloats, Step, 128, 128, 1>)
        gated_delta_sequential<Bfloats, Step, 128, 128, 1>;
template [[host_name(
    "gated_delta_sequential_prompt")]] [[kernel]] decltype(gated_delta_sequential<Bfloats, Prompt, 128, 128, 8>)
    gated_delta_sequential<Bfloats, Prompt, 128, 128, 8>;
