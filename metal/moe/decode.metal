#include "decode.h"

template [[host_name("moe_gate_up_bfloat_Affine_64_4_Affine_64_4_Affine_64_8_4_2_2")]]
[[kernel]] decltype(moe_gate_up<bfloat, Affine<64, 4>, Affine<64, 4>, Affine<64, 8>, 4, 2, 2>)
    moe_gate_up<bfloat, Affine<64, 4>, Affine<64, 4>, Affine<64, 8>, 4, 2, 2>;
template [[host_name("moe_experts_down_bfloat_Affine_64_4_Affine_64_4_2_8")]]
[[kernel]] decltype(moe_experts_down<bfloat, Affine<64, 4>, Affine<64, 4>, 2, 8>)
    moe_experts_down<bfloat, Affine<64, 4>, Affine<64, 4>, 2, 8>;
template [[host_name("moe_experts_down_bfloat_Affine_64_4_Affine_64_4_4_8")]]
[[kernel]] decltype(moe_experts_down<bfloat, Affine<64, 4>, Affine<64, 4>, 4, 8>)
    moe_experts_down<bfloat, Affine<64, 4>, Affine<64, 4>, 4, 8>;
