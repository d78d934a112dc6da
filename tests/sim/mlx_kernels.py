"""The table of MLX's own kernels that prove the simulator: a new case is a line here."""

from __future__ import annotations

from tests.arrays import BF16, F16, F32
from tests.sim.launches.air import layer_norm, rms_norm, rope_single
from tests.sim.launches.attention import (
    sdpa_vector,
    sdpa_vector_2pass_1,
    sdpa_vector_2pass_1_gqa,
    sdpa_vector_2pass_2,
    steel_attention,
)
from tests.sim.launches.dense import gemv, steel_gemm_fused
from tests.sim.launches.gated_delta import gated_delta_update, mlx_lm_gated_delta
from tests.sim.launches.launch import Finding, case
from tests.sim.launches.quantized import (
    affine_dequantize,
    affine_gather_qmm_rhs,
    affine_gather_qmv_fast,
    affine_qmm_n,
    affine_qmm_t,
    affine_qmv,
    affine_qmv_fast,
    affine_qmv_wide,
    affine_qvm,
)
from tests.sim.launches.rows import logsumexp_row, softmax_row
from tests.sim.launches.vectors import (
    arange,
    binary_vv,
    block_sort,
    contiguous_scan,
    copy_v,
    row_reduce_simple,
    unary_v,
)

MOVED_BACK_COLUMNS = Finding("device-race", "quantized.h", "y[row] = static_cast<T>(result[row]);")
MOVED_BACK_ROWS = Finding("device-race", "reduce_row.h", "out[i] = totals[i];")
"""The last threadgroup is moved back to fill its tile, and writes a second time what another one writes: the same."""

REUSED_GAMMA = Finding("threadgroup-race", "gated_delta_update.h", "PROCESS_CHUNK_SG(false, S_tile, C);")
REUSED_GAMMA_LAST = Finding("threadgroup-race", "gated_delta_update.h", "PROCESS_CHUNK_SG(true, S_tile, short(T - t));")
"""A chunk overwrites ``gamma`` in threadgroup memory while other lanes of the simdgroup may still read the last one's:
nothing but lockstep keeps them together."""

UNSET_SUMS = Finding(
    "uninitialised-read",
    "scan.h",
    "U prev_simdgroup = op.simd_exclusive_scan(simdgroup_sums[simd_lane_id]);",
)
"""Lanes beyond the threadgroup's simdgroups read sums that nobody wrote; what they make of them is not used."""

UNBOUND_PARAMETERS = Finding("out-of-bounds", "steel_gemm_fused.h", "addmm_params->alpha, addmm_params->beta);")
"""Read before use_out_source is asked, though MLX binds them only where it is set; what is read is not used."""

CASES = (
    case(softmax_row, F32, width=501),
    case(softmax_row, F32, width=4500, looped=True),
    case(softmax_row, F16, width=333),
    case(softmax_row, F16, width=333, precise=True),
    case(softmax_row, BF16, width=256, precise=True),
    case(softmax_row, BF16, width=4099, precise=True, looped=True),
    case(logsumexp_row, F32, width=70),
    case(logsumexp_row, F16, width=4101, looped=True),
    case(logsumexp_row, BF16, width=501),
    case(sdpa_vector, F32, heads=2, kv_heads=1, keys=70, width=128),
    case(sdpa_vector, F16, heads=2, kv_heads=2, keys=45, width=64, mask="bool"),
    case(sdpa_vector, BF16, heads=2, kv_heads=1, keys=67, width=128, mask="float", sinks=True),
    case(sdpa_vector, F32, heads=2, kv_heads=1, keys=40, width=256, queries=2, mask="causal"),
    case(sdpa_vector, BF16, heads=2, kv_heads=1, keys=33, width=256),
    case(sdpa_vector_2pass_1, F32, keys=150, width=128, queries=1),
    case(sdpa_vector_2pass_1, BF16, keys=140, width=256, queries=2),
    case(sdpa_vector_2pass_1_gqa, F16, keys=37, blocks=2),
    case(sdpa_vector_2pass_2, F32, blocks=32, width=128),
    case(sdpa_vector_2pass_2, BF16, blocks=64, width=256),
    case(steel_attention, F32, heads=1, kv_heads=1, queries=40, keys=45, width=64),
    case(steel_attention, BF16, heads=2, kv_heads=1, queries=32, keys=48, width=128),
    case(affine_qmv_fast, F32, rows=1, columns=16, depth=512, group=64, bits=4),
    case(affine_qmv_fast, F16, rows=2, columns=16, depth=1024, group=32, bits=4),
    case(affine_qmv_fast, BF16, rows=2, columns=16, depth=512, group=128, bits=8),
    case(affine_qmv_fast, BF16, rows=1, columns=13, depth=512, group=64, bits=4),
    case(affine_qmv, F32, MOVED_BACK_COLUMNS, rows=2, columns=13, depth=320, group=64, bits=4),
    case(affine_qmv, F16, rows=1, columns=5, depth=96, group=32, bits=8),
    case(affine_qmv_wide, BF16, rows=3, columns=13, depth=256, group=64, bits=4),
    case(affine_qvm, F32, rows=1, columns=128, depth=70, group=64, bits=4),
    case(affine_qmm_t, F32, rows=33, columns=64, depth=96, group=32, bits=4),
    case(affine_qmm_t, F16, rows=32, columns=40, depth=128, group=64, bits=4),
    case(affine_qmm_t, BF16, rows=45, columns=64, depth=128, group=128, bits=8),
    case(affine_qmm_n, F32, rows=33, columns=64, depth=70, group=64, bits=4),
    case(affine_qmm_n, BF16, rows=32, columns=64, depth=64, group=32, bits=8),
    case(affine_gather_qmv_fast, F16, tokens=3, experts=4, columns=8, depth=512, group=64, bits=4),
    case(affine_gather_qmv_fast, BF16, tokens=3, experts=4, columns=16, depth=512, group=128, bits=8),
    case(affine_gather_qmm_rhs, F32, sizes=(5, 0, 20, 7), columns=64, depth=96, group=32, bits=4),
    case(affine_gather_qmm_rhs, F16, sizes=(16, 32), columns=40, depth=64, group=64, bits=4),
    case(affine_gather_qmm_rhs, BF16, sizes=(1, 30, 2), columns=64, depth=128, group=128, bits=8),
    case(affine_dequantize, F16, rows=3, depth=128, group=32, bits=4),
    case(affine_dequantize, BF16, rows=2, depth=128, group=64, bits=8),
    case(steel_gemm_fused, F32, UNBOUND_PARAMETERS, layout="nn", rows=33, columns=40, depth=50),
    case(steel_gemm_fused, F16, UNBOUND_PARAMETERS, layout="nt", rows=32, columns=64, depth=64),
    case(steel_gemm_fused, BF16, UNBOUND_PARAMETERS, layout="nt", rows=70, columns=64, depth=40, tile=(64, 64, 16)),
    case(gemv, F32, columns=7, depth=200),
    case(gemv, BF16, columns=9, depth=131),
    case(gated_delta_update, F32, REUSED_GAMMA_LAST, chunked=True, steps=9),
    case(gated_delta_update, BF16, REUSED_GAMMA, chunked=True, steps=16),
    case(gated_delta_update, F32, chunked=False, steps=5),
    case(gated_delta_update, BF16, chunked=False, steps=5),
    case(arange, F32, length=37),
    case(arange, BF16, length=70),
    case(binary_vv, F16, operation="Add", length=101),
    case(binary_vv, BF16, operation="Multiply", length=102),
    case(binary_vv, F32, operation="LogAddExp", length=75),
    case(unary_v, F32, operation="Sigmoid", length=101),
    case(unary_v, F16, operation="Exp", length=101),
    case(copy_v, BF16, source=F32, length=103),
    case(copy_v, F32, source=BF16, length=103),
    case(row_reduce_simple, F32, MOVED_BACK_ROWS, rows=33, width=301),
    case(row_reduce_simple, BF16, MOVED_BACK_ROWS, rows=33, width=260),
    case(contiguous_scan, F32, rows=1, width=4500, threads=1024),
    case(contiguous_scan, F32, UNSET_SUMS, rows=2, width=300, threads=96),
    case(block_sort, F32, rows=2, width=101),
    case(block_sort, BF16, rows=2, width=128),
)

MLX_LM_CASES = (
    case(mlx_lm_gated_delta, F32, variant="", steps=5, width=128, d_v=16),
    case(mlx_lm_gated_delta, BF16, variant="", steps=5, width=128, d_v=16),
    case(mlx_lm_gated_delta, F32, variant="_unpacked", steps=5, width=64, d_v=8),
    case(mlx_lm_gated_delta, F16, variant="_unpacked", steps=5, width=128, d_v=4),
)

NEGATIVE_INDEX = Finding("out-of-bounds", "", "")
"""A thread that starts three numbers or more behind the row's end counts up from a negative index of its own array."""

AIR_CASES = (
    case(rms_norm, F32, width=501),
    case(rms_norm, F16, width=1024),
    case(rms_norm, BF16, width=333),
    case(rms_norm, BF16, width=4500, looped=True),
    case(layer_norm, F32, NEGATIVE_INDEX, width=501),
    case(layer_norm, BF16, width=1024),
    case(rope_single, F32, heads=3, width=64, position=7),
    case(rope_single, BF16, heads=2, width=128, position=100),
)
