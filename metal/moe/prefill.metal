#include "combine.h"
#include "gemm.h"
#include "worklist.h"

template [[host_name("moe_worklist_8")]] [[kernel]] decltype(moe_worklist<8>) moe_worklist<8>;
template [[host_name("moe_worklist_16")]] [[kernel]] decltype(moe_worklist<16>) moe_worklist<16>;
template [[host_name("moe_worklist_32")]] [[kernel]] decltype(moe_worklist<32>) moe_worklist<32>;
template [[host_name("moe_worklist_64")]] [[kernel]] decltype(moe_worklist<64>) moe_worklist<64>;
template [[host_name("moe_gemm_gate_up_bfloat_Affine_64_4_8_true")]]
[[kernel]] decltype(moe_gemm_gate_up<bfloat, Affine<64, 4>, 8, true>) moe_gemm_gate_up<bfloat, Affine<64, 4>, 8, true>;
template [[host_name("moe_gemm_gate_up_bfloat_Affine_64_4_16_true")]]
[[kernel]] decltype(moe_gemm_gate_up<bfloat, Affine<64, 4>, 16, true>)
    moe_gemm_gate_up<bfloat, Affine<64, 4>, 16, true>;
template [[host_name("moe_gemm_gate_up_bfloat_Affine_64_4_32_true")]]
[[kernel]] decltype(moe_gemm_gate_up<bfloat, Affine<64, 4>, 32, true>)
    moe_gemm_gate_up<bfloat, Affine<64, 4>, 32, true>;
template [[host_name("moe_gemm_gate_up_bfloat_Affine_64_4_64_true")]]
[[kernel]] decltype(moe_gemm_gate_up<bfloat, Affine<64, 4>, 64, true>)
    moe_gemm_gate_up<bfloat, Affine<64, 4>, 64, true>;
template [[host_name("moe_gemm_gate_up_bfloat_Affine_64_4_16_false")]]
[[kernel]] decltype(moe_gemm_gate_up<bfloat, Affine<64, 4>, 16, false>)
    moe_gemm_gate_up<bfloat, Affine<64, 4>, 16, false>;
template [[host_name("moe_gemm_gate_up_bfloat_Affine_64_4_32_false")]]
[[kernel]] decltype(moe_gemm_gate_up<bfloat, Affine<64, 4>, 32, false>)
    moe_gemm_gate_up<bfloat, Affine<64, 4>, 32, false>;
template [[host_name("moe_gemm_gate_up_bfloat_Affine_64_4_64_false")]]
[[kernel]] decltype(moe_gemm_gate_up<bfloat, Affine<64, 4>, 64, false>)
    moe_gemm_gate_up<bfloat, Affine<64, 4>, 64, false>;
template [[host_name("moe_gemm_down_bfloat_Affine_64_4_8_true")]]
[[kernel]] decltype(moe_gemm_down<bfloat, Affine<64, 4>, 8, true>) moe_gemm_down<bfloat, Affine<64, 4>, 8, true>;
template [[host_name("moe_gemm_down_bfloat_Affine_64_4_16_true")]]
[[kernel]] decltype(moe_gemm_down<bfloat, Affine<64, 4>, 16, true>) moe_gemm_down<bfloat, Affine<64, 4>, 16, true>;
template [[host_name("moe_gemm_down_bfloat_Affine_64_4_32_true")]]
[[kernel]] decltype(moe_gemm_down<bfloat, Affine<64, 4>, 32, true>) moe_gemm_down<bfloat, Affine<64, 4>, 32, true>;
template [[host_name("moe_gemm_down_bfloat_Affine_64_4_64_true")]]
[[kernel]] decltype(moe_gemm_down<bfloat, Affine<64, 4>, 64, true>) moe_gemm_down<bfloat, Affine<64, 4>, 64, true>;
template [[host_name("moe_gemm_down_bfloat_Affine_64_4_16_false")]]
[[kernel]] decltype(moe_gemm_down<bfloat, Affine<64, 4>, 16, false>) moe_gemm_down<bfloat, Affine<64, 4>, 16, false>;
template [[host_name("moe_gemm_down_bfloat_Affine_64_4_32_false")]]
[[kernel]] decltype(moe_gemm_down<bfloat, Affine<64, 4>, 32, false>) moe_gemm_down<bfloat, Affine<64, 4>, 32, false>;
template [[host_name("moe_gemm_down_bfloat_Affine_64_4_64_false")]]
[[kernel]] decltype(moe_gemm_down<bfloat, Affine<64, 4>, 64, false>) moe_gemm_down<bfloat, Affine<64, 4>, 64, false>;
template [[host_name("moe_combine_bfloat_true_Affine_64_8")]]
[[kernel]] decltype(moe_combine<bfloat, true, Affine<64, 8>>) moe_combine<bfloat, true, Affine<64, 8>>;
