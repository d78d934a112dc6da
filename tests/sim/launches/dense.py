"""Products of dense matrices."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from tests.arrays import normal, numpy_of
from tests.sim.launches.launch import NAME, TYPE, Buffer, Launch, Result, ceil_div, instantiate

GEMM_PARAMS = np.dtype(
    [(name, np.int32) for name in ("M", "N", "K", "lda", "ldb", "ldd", "tiles_n", "tiles_m")]
    + [(f"batch_stride_{x}", np.int64) for x in "abd"]
    + [(name, np.int32) for name in ("swizzle_log", "gemm_k_iterations_aligned", "batch_ndim", "padding")]
)
"""``mlx::steel::GEMMParams``"""


def steel_gemm_fused(
    rng: np.random.Generator,
    dtype: mx.Dtype,
    *,
    layout: str,
    rows: int,
    columns: int,
    depth: int,
    tile: tuple[int, int, int] = (32, 32, 16),
) -> Launch:
    """a b, or with layout nt a b^T; the tile is rows, columns and depth."""
    bm, bn, bk = tile
    kernel = f"steel_gemm_fused_{layout}_{NAME[dtype]}_{NAME[dtype]}_bm{bm}_bn{bn}_bk{bk}_wm2_wn2"
    transposed = layout == "nt"
    a = normal(rng, rows, depth, dtype=dtype)
    b = normal(rng, *((columns, depth) if transposed else (depth, columns)), dtype=dtype, scale=depth**-0.5)
    params = np.zeros(1, GEMM_PARAMS)
    values = {
        "M": rows,
        "N": columns,
        "K": depth,
        "lda": depth,
        "ldb": depth if transposed else columns,
        "ldd": columns,
        "tiles_n": ceil_div(columns, bn),
        "tiles_m": ceil_div(rows, bm),
        "gemm_k_iterations_aligned": depth // bk,
    }
    for name, value in values.items():
        params[name] = value
    return Launch(
        kernel,
        grid=(ceil_div(columns, bn), ceil_div(rows, bm), 1),
        threadgroup=(32, 2, 2),
        buffers={"A": a, "B": b, "params": params},
        results={"D": Result(dtype, numpy_of(a) @ (numpy_of(b).T if transposed else numpy_of(b)))},
        source=instantiate(
            "utils.h steel/gemm/gemm.h steel/gemm/kernels/steel_gemm_fused.h",
            kernel,
            *("gemm", TYPE[dtype], bm, bn, bk, 2, 2, False, transposed, "float"),
        ),
        constants={
            10: False,
            100: False,
            110: False,
            200: rows % bm == 0,
            201: columns % bn == 0,
            202: depth % bk == 0,
        },
    )


def gemv(rng: np.random.Generator, dtype: mx.Dtype, *, columns: int, depth: int) -> Launch:
    """A matrix times a vector, one row to each of four simdgroups."""
    kernel = f"gemv_{NAME[dtype]}_bm4_bn1_sm1_sn32_tm1_tn4_nc0_axpby0"
    matrix = normal(rng, columns, depth, dtype=dtype, scale=depth**-0.5)
    vector = normal(rng, depth, dtype=dtype)
    buffers: dict[str, Buffer] = {"mat": matrix, "in_vec": vector, "bias": vector}
    sizes = {"in_vec_size": depth, "out_vec_size": columns, "marix_ld": depth, "batch_ndim": 1, "bias_stride": 0}
    strides = {f"{name}_batch_stride": np.zeros(1, np.int64) for name in ("vector", "matrix", "bias")}
    return Launch(
        kernel,
        grid=(ceil_div(columns, 4), 1, 1),
        threadgroup=(32, 1, 4),
        buffers=buffers
        | {name: np.int32(n) for name, n in sizes.items()}
        | strides
        | {"alpha": np.float32(1), "beta": np.float32(0), "batch_shape": np.ones(1, np.int32)},
        results={"out_vec": Result(dtype, numpy_of(matrix) @ numpy_of(vector))},
        source=instantiate("utils.h gemv.h", kernel, "gemv", TYPE[dtype], 4, 1, 1, 32, 1, 4, False, False),
    )
