#include "combine.h"
#include "gemm.h"

template [[host_name("moe_gemm_gate_up<bfloat, Affine<64, 4>, 8, true>")]]
[[kernel]] decltype(moe_gemm_gate_up<bfloat, Affine<64, 4>, 8, true>) moe_gemm_gate_up<bfloat, Affine<64, 4>, 8, true>;
template [[host_name("moe_gemm_gate_up<bfloat, Affine<64, 4>, 64, true>")]]
[[kernel]] decltype(moe_gemm_gate_up<bfloat, Affine<64, 4>, 64, true>)
    moe_gemm_gate_up<bfloat, Affine<64, 4>, 64, true>;
template [[host_name("moe_gemm_gate_up<bfloat, Affine<64, 4>, 64, false>")]]
[[kernel]] decltype(moe_gemm_gate_up<bfloat, Affine<64, 4>, 64, false>)
    moe_gemm_gate_up<bfloat, Affine<64, 4>, 64, false>;
template [[host_name("moe_gemm_down<bfloat, Affine<64, 4>, 64, true>")]]
[[kernel]] decltype(moe_gemm_down<bfloat, Affine<64, 4>, 64, true>) moe_gemm_down<bfloat, Affine<64, 4>, 64, true>;
template [[host_name("moe_combine<bfloat, true, Affine<64, 8>>")]]
[[kernel]] decltype(moe_combine<bfloat, true, Affine<64, 8>>) moe_combine<bfloat, true, Affine<64, 8>>;
template [[host_name("moe_worklist<64>")]] [[kernel]] decltype(moe_worklist<64>) moe_worklist<64>;
