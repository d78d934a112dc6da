"""Kernels of MLX's headers, those for neural accelerators apart, instantiated so that the shim is put to use."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import mlx

INCLUDE = Path(next(iter(mlx.__path__))) / "include"

_FLOATS = ("float", "bfloat16_t", "half")
_UNARY = (
    *("Abs", "ArcCos", "ArcCosh", "ArcSin", "ArcSinh", "ArcTan", "ArcTanh", "Ceil", "Cos", "Cosh", "Erf", "ErfInv"),
    *("Exp", "Expm1", "Floor", "Log", "Log2", "Log10", "Log1p", "Negative", "Round", "Sigmoid", "Sign", "Sin", "Sinh"),
    *("Square", "Sqrt", "Rsqrt", "Tan", "Tanh"),
)
_GEMM = ("steel/gemm/gemm.h",)
_QUANTIZED = (*_GEMM, "quantized_utils.h", "quantized.h")
_CONVOLUTION = ("steel/gemm/mma.h", "steel/conv/conv.h", "steel/conv/params.h")


@dataclass(frozen=True)
class Instances:
    headers: tuple[str, ...]
    kernels: tuple[str, ...]
    """Each a kernel's name and its template arguments."""


def text_of(instances: Instances) -> str:
    """A shader of the instances, named by their numbers."""
    headers = "".join(f'#include "mlx/backend/metal/kernels/{name}"\n' for name in ("utils.h", *instances.headers))
    return headers + "".join(f'instantiate_kernel("{n}", {kernel})\n' for n, kernel in enumerate(instances.kernels))


def _reductions() -> list[str]:
    forms = {
        "all_reduce": "",
        "row_reduce_simple": "",
        "row_reduce_small": ", int, 1",
        "row_reduce_looped": ", int, 1",
        "col_reduce_small": ", int, 1",
        "col_reduce_longcolumn": ", int, 1",
        "col_reduce_looped": ", int, 1, 32, 32",
        "col_reduce_2pass": ", int, 1, 32, 32",
    }
    types, operators = (*_FLOATS, "int64_t"), ("Sum", "Prod", "Max", "Min")
    return [f"{form}, {t}, {t}, {op}<{t}>{forms[form]}" for form, t, op in product(forms, types, operators)]


INSTANTIATIONS = {
    "affine": Instances(
        _QUANTIZED,
        (
            "affine_qmv_fast, bfloat16_t, 64, 4, false",
            "affine_qmv, bfloat16_t, 64, 4, false",
            "affine_qmv_quad, float, 64, 4, 128, false",
            "affine_qmv_wide, bfloat16_t, 64, 4, 2, 8, false",
            "affine_qvm, float, 32, 8, true",
            "affine_qvm_split_k, float, 64, 6",
            "affine_qmm_t, bfloat16_t, 64, 4, true, false",
            "affine_qmm_t_splitk, bfloat16_t, 64, 4, true",
            "affine_qmm_n, half, 64, 3, false",
            "affine_gather_qmv_fast, half, 64, 4",
            "affine_gather_qmv, float, 64, 5",
            "affine_gather_qvm, float, 64, 4",
            "affine_gather_qmm_t, half, 64, 4, true",
            "affine_gather_qmm_n, bfloat16_t, 64, 4",
            "affine_gather_qmm_rhs, bfloat16_t, 64, 4, 16, 32, 32, 1, 2, true",
            "affine_quantize, bfloat16_t, 32, 2",
            "affine_dequantize, half, 128, 8",
        ),
    ),
    "arange": Instances(("arange.h",), ("arange, float", "arange, bfloat16_t", "arange, int")),
    "attention": Instances(
        ("steel/attn/kernels/steel_attention.h",), ("attention, bfloat16_t, 32, 16, 128, 128, 4, 1, bfloat16_t",)
    ),
    "binary": Instances(
        ("binary_ops.h", "binary.h"),
        (
            *[
                f"{form}, {t}, {t}, {op}"
                for form, t, op in product(
                    ("binary_ss", "binary_vv2", "binary_g_nd2", "binary_g"),
                    _FLOATS,
                    ("Add", "Divide", "Maximum", "Power", "Remainder", "LogAddExp", "ArcTan2"),
                )
            ],
            "binary_vv, complex64_t, complex64_t, Divide",
            "binary_ss, bfloat16_t, bool, Equal",
            "binary_vv, int, int, BitwiseAnd",
        ),
    ),
    "binary_two": Instances(("binary_ops.h", "binary_two.h"), ("binary_vv, float, float, DivMod",)),
    "convolution": Instances(
        (*_CONVOLUTION, "steel/conv/kernels/steel_conv.h"),
        ("implicit_gemm_conv_2d, float, 32, 32, 16, 2, 2, 4, true",),
    ),
    "convolution_3d": Instances(
        (*_CONVOLUTION, "steel/conv/kernels/steel_conv_3d.h"), ("implicit_gemm_conv_3d, half, 32, 32, 16, 2, 2",)
    ),
    "convolution_general": Instances(
        (*_CONVOLUTION, "steel/conv/kernels/steel_conv_general.h"),
        ("implicit_gemm_conv_2d_general, bfloat16_t, 32, 32, 16, 2, 2",),
    ),
    "copy": Instances(
        ("copy.h",),
        (
            "copy_s, float, half",
            "copy_v, bfloat16_t, float",
            "copy_v2, half, bfloat16_t",
            "copy_v, complex64_t, float",
            "copy_g, bool, bfloat16_t",
            "copy_gg_nd3, int, float",
            "copy_gg_dynamic, bfloat16_t, bool",
        ),
    ),
    "cross_entropy": Instances(("cross_entropy.h",), ("cross_entropy, float", "cross_entropy_vjp, bfloat16_t")),
    "dot": Instances(("dot.h",), ("dot_product, float, 4, 256, 8", "dot_product, bfloat16_t, 4, 256, 8")),
    "fft": Instances(
        ("fft.h",),
        (
            "fft, 1024, float, float2",
            "rader_fft, 256, float2, float2",
            "bluestein_fft, 256, float2, float2",
            "four_step_fft, 256, float2, float2, 0",
        ),
    ),
    "floating_point": Instances(
        (*_GEMM, "quantized_utils.h", "fp_quantized.h"),
        (
            "fp_qmv_quad, float, 32, 4, 64, false",
            "fp_qmv_fast, bfloat16_t, 32, 4, false",
            "fp_qmv_wide, bfloat16_t, 32, 8, 2, 8, false",
            "fp_qvm, float, 32, 8, false",
            "fp_qmm_t, bfloat16_t, 32, 4, true, false",
            "fp_qmm_n, half, 32, 4, false",
            "fp_gather_qmm_rhs, bfloat16_t, 32, 4, 16, 32, 32, 1, 2, true",
            "fp_quantize, float, 32, 4, false",
            "fp_dequantize, bfloat16_t, 32, 8, false",
        ),
    ),
    "gated_delta": Instances(
        ("gated_delta_update.h",),
        ("gated_delta_fused_chunk, bfloat16_t, 128, 128, 16, 32, 16", "gated_delta_seq, half, 128, 128, 16, 32, 0"),
    ),
    "gated_delta_vjp": Instances(
        ("gated_delta_update_vjp.h",), ("gated_delta_vjp_seq, bfloat16_t, 128, 128, 16, 32, 64",)
    ),
    "gather": Instances(
        ("indexing/indexing.h", "indexing/gather_axis.h", "indexing/gather_front.h", "indexing/masked_scatter.h"),
        ("gather_axis, float, int, int, true, false", "gather_front, bfloat16_t, uint, int, 2"),
    ),
    "gemm": Instances(
        (*_GEMM, "steel/gemm/kernels/steel_gemm_fused.h"),
        ("gemm, float, 32, 32, 16, 2, 2, false, false", "gemm, bfloat16_t, 64, 64, 16, 2, 2, false, true, float"),
    ),
    "gemm_gather": Instances(
        (*_GEMM, "steel/gemm/kernels/steel_gemm_gather.h"),
        ("gather_mm_rhs, bfloat16_t, 16, 64, 16, 1, 2, false, true", "gather_mm, float, 32, 32, 16, 2, 2, false, true"),
    ),
    "gemm_masked": Instances(
        (*_GEMM, "steel/gemm/kernels/steel_gemm_masked.h"),
        ("block_masked_gemm, float, nomask_t, bool, 32, 32, 16, 2, 2, false, false, true, true",),
    ),
    "gemm_split": Instances(
        (*_GEMM, "steel/gemm/kernels/steel_gemm_segmented.h", "steel/gemm/kernels/steel_gemm_splitk.h"),
        (
            "segmented_mm, float, 32, 32, 16, 2, 2, false, true",
            "gemm_splitk, half, float, 32, 32, 16, 2, 2, false, false, true, true",
            "gemm_splitk_accum_axpby, float, bfloat16_t",
        ),
    ),
    "gemv": Instances(
        ("gemv.h",),
        (
            "gemv, float, 1, 8, 1, 32, 4, 4, false, false",
            "gemv_t, bfloat16_t, 1, 2, 8, 4, 4, 4, false, false",
            "gemv_gather, half, 1, 8, 1, 32, 4, 4",
            "gemv_wide, bfloat16_t, 2, 8",
        ),
    ),
    "gemv_masked": Instances(("gemv_masked.h",), ("gemv_masked, float, bool, bool, 1, 8, 1, 32, 4, 4, false",)),
    "hadamard": Instances(("hadamard.h",), ("hadamard_n, float, 64, 16, 2",)),
    "logsumexp": Instances(("logsumexp.h",), ("logsumexp, float", "logsumexp_looped, bfloat16_t")),
    "reduce": Instances(
        ("atomic.h", "reduction/ops.h", "reduce.h"), (*_reductions(), "init_reduce, float, Sum<float>")
    ),
    "scan": Instances(
        ("scan.h",),
        tuple(
            f"{form}, {t}, {t}, {op}<{t}>, 4, true, false"
            for form, t, op in product(
                ("contiguous_scan", "strided_scan"), (*_FLOATS, "int", "int64_t"), ("CumSum", "CumProd", "CumMax")
            )
        ),
    ),
    "scatter": Instances(
        ("atomic.h", "reduction/ops.h", "indexing/indexing.h", "indexing/scatter.h", "indexing/scatter_axis.h"),
        (
            "scatter_axis, float, int, int, Sum<float>, true, false",
            "scatter_axis, bfloat16_t, int, int, Sum<bfloat16_t>, true, false",
            "scatter_axis, int8_t, int, int, Max<int8_t>, true, false",
        ),
    ),
    "sdpa": Instances(
        ("sdpa_vector.h", "sdpa_blocked.h"),
        (
            "sdpa_vector, bfloat16_t, 128, 128",
            "sdpa_vector_2pass_1, half, 128",
            "sdpa_vector_2pass_1_gqa, bfloat16_t, 128, 128, 4, 2",
            "sdpa_vector_2pass_2, float, 128",
            "sdpa_blocked_causal_mask, bfloat16_t",
        ),
    ),
    "softmax": Instances(
        ("softmax.h",), ("softmax_single_row, float", "softmax_single_row, bfloat16_t, float", "softmax_looped, half")
    ),
    "sort": Instances(
        ("sort.h", "searchsorted.h"),
        (
            "block_sort, float, uint, true, 128, 4",
            "mb_block_merge, half, uint, true, 128, 4",
            "searchsorted, float, true",
        ),
    ),
    "ternary": Instances(
        ("ternary_ops.h", "ternary.h"), ("ternary_v, float, Select, false, false", "ternary_g_nd2, complex64_t, Select")
    ),
    "unary": Instances(
        ("unary_ops.h", "unary.h"),
        (
            *[f"unary_v, {t}, {t}, {op}" for t, op in product(_FLOATS, _UNARY)],
            "unary_v, complex64_t, complex64_t, Exp",
            "unary_g, uint8_t, uint8_t, Abs",
            "unary_v, float, uint8_t, ToFP8",
        ),
    ),
}
