"""Products with matrices in MLX's affine quantised layout."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np

from tests import oracle
from tests.arrays import F32, normal, numpy_of, quantized, to_oracle
from tests.sim.launches.launch import ROUNDOFF, TYPE, Buffer, Launch, Result, ceil_div, instantiate

QUANTIZED = "utils.h steel/gemm/gemm.h quantized_utils.h quantized.h"


def not_batched() -> dict[str, Buffer]:
    """The shapes and strides of a batch, which a kernel of one matrix takes and does not read."""
    counts = {f"{x}_batch_ndims": np.int32(0) for x in "xw"}
    shapes = {f"{x}_shape": np.zeros(1, np.int32) for x in "xw"}
    strides = {f"{x}_strides": np.zeros(1, np.int64) for x in "xwsb"}
    return {**counts, **shapes, **strides}


def codes(w: Any) -> dict[str, Buffer]:
    """The buffers of a quantised matrix."""
    return dict(zip(("w", "scales", "biases"), w, strict=True))


def expanded(w: Any, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The matrix ``[..., N, columns]`` and, of the same shape, its biases."""
    q = to_oracle(w)
    return oracle.dequantize(q, columns), np.repeat(q.biases, columns // q.biases.shape[-1], axis=-1)


def tiled_product(dtype: mx.Dtype, x: np.ndarray, dense: np.ndarray, biases: np.ndarray) -> Result:
    """x dense, of a kernel that keeps the dequantised matrix in tiles of its own dtype.

    So each weight is rounded after the product of scale and code and after the sum with its bias; the sums of n
    products in float32 lose up to n roundings of the sum of their magnitudes.
    """
    want = x @ dense
    if dtype == F32:
        return Result(dtype, want)
    unit = ROUNDOFF[dtype]
    size = np.abs(dense)
    lost = unit * (np.abs(dense - biases) * (1 + unit) + size) + dense.shape[-2] * ROUNDOFF[F32] * size
    return Result(dtype, want, np.abs(x) @ lost + unit * np.abs(want))


def qmv_launch(
    rng: np.random.Generator,
    dtype: mx.Dtype,
    function: str,
    partial: bool,
    *,
    rows: int,
    columns: int,
    depth: int,
    group: int,
    bits: int,
) -> Launch:
    """x w^T for a kernel of two simdgroups that give four columns each."""
    kernel = f"affine_{function}_{TYPE[dtype]}_gs_{group}_b_{bits}_batch_0_pr_{int(partial)}_hgs_0_r_4"
    w = quantized(rng, columns, depth, bits=bits, group=group, dtype=dtype)
    x = normal(rng, rows, depth, dtype=dtype)
    (want,) = oracle.qlinear(numpy_of(x), to_oracle(w))
    return Launch(
        kernel,
        grid=(rows, ceil_div(columns, 8), 1),
        threadgroup=(32, 2, 1),
        buffers=codes(w) | not_batched() | {"x": x, "in_vec_size": np.int32(depth), "out_vec_size": np.int32(columns)},
        results={"y": Result(dtype, want)},
        source=instantiate(
            QUANTIZED, kernel, *(f"affine_{function}", TYPE[dtype], group, bits, False, partial, False, 4)
        ),
    )


def affine_qmv_fast(rng: np.random.Generator, dtype: mx.Dtype, **shape: int) -> Launch:
    """x w^T for a few rows; depth a multiple of 512. Columns that are no multiple of eight take another variant."""
    return qmv_launch(rng, dtype, "qmv_fast", shape["columns"] % 8 != 0, **shape)


def affine_qmv(rng: np.random.Generator, dtype: mx.Dtype, **shape: int) -> Launch:
    """x w^T for a few rows and any depth."""
    return qmv_launch(rng, dtype, "qmv", False, **shape)


def affine_qvm(
    rng: np.random.Generator, dtype: mx.Dtype, *, rows: int, columns: int, depth: int, group: int, bits: int
) -> Launch:
    """x w, w quantised along its rows."""
    kernel = f"affine_qvm_{TYPE[dtype]}_gs_{group}_b_{bits}_batch_0"
    w = quantized(rng, depth, columns, bits=bits, group=group, dtype=dtype)
    x = normal(rng, rows, depth, dtype=dtype)
    return Launch(
        kernel,
        grid=(rows, ceil_div(columns, 64), 1),
        threadgroup=(32, 2, 1),
        buffers=codes(w) | not_batched() | {"x": x, "in_vec_size": np.int32(depth), "out_vec_size": np.int32(columns)},
        results={"y": Result(dtype, numpy_of(x) @ oracle.dequantize(to_oracle(w), columns))},
        source=instantiate(QUANTIZED, kernel, "affine_qvm", TYPE[dtype], group, bits, False),
    )


def affine_qmm_t(
    rng: np.random.Generator, dtype: mx.Dtype, *, rows: int, columns: int, depth: int, group: int, bits: int
) -> Launch:
    """x w^T in tiles of 32 by 32."""
    aligned = columns % 32 == 0
    kernel = f"affine_qmm_t_{TYPE[dtype]}_gs_{group}_b_{bits}_alN_{str(aligned).lower()}_batch_0"
    w = quantized(rng, columns, depth, bits=bits, group=group, dtype=dtype)
    x = normal(rng, rows, depth, dtype=dtype)
    dense, biases = expanded(w, depth)
    sizes = {"M": np.int32(rows), "N": np.int32(columns), "K": np.int32(depth)}
    return Launch(
        kernel,
        grid=(ceil_div(columns, 32), ceil_div(rows, 32), 1),
        threadgroup=(32, 2, 2),
        buffers=codes(w) | not_batched() | sizes | {"x": x},
        results={"y": tiled_product(dtype, numpy_of(x), dense.T, biases.T)},
        source=instantiate(QUANTIZED, kernel, "affine_qmm_t", TYPE[dtype], group, bits, aligned, False),
    )


def affine_qmm_n(
    rng: np.random.Generator, dtype: mx.Dtype, *, rows: int, columns: int, depth: int, group: int, bits: int
) -> Launch:
    """x w in tiles of 32 by 32, w quantised along its rows."""
    kernel = f"affine_qmm_n_{TYPE[dtype]}_gs_{group}_b_{bits}_batch_0"
    w = quantized(rng, depth, columns, bits=bits, group=group, dtype=dtype)
    x = normal(rng, rows, depth, dtype=dtype)
    sizes = {"M": np.int32(rows), "N": np.int32(columns), "K": np.int32(depth)}
    return Launch(
        kernel,
        grid=(columns // 32, ceil_div(rows, 32), 1),
        threadgroup=(32, 2, 2),
        buffers=codes(w) | not_batched() | sizes | {"x": x},
        results={"y": tiled_product(dtype, numpy_of(x), *expanded(w, columns))},
        source=instantiate(QUANTIZED, kernel, "affine_qmm_n", TYPE[dtype], group, bits, False),
    )


def affine_qmv_wide(
    rng: np.random.Generator, dtype: mx.Dtype, *, rows: int, columns: int, depth: int, group: int, bits: int
) -> Launch:
    """x w^T for two rows at a time, eight lanes to a column."""
    kernel = f"affine_qmv_wide_{TYPE[dtype]}_gs_{group}_b_{bits}_nv_2_kl_8_batch_0"
    w = quantized(rng, columns, depth, bits=bits, group=group, dtype=dtype)
    x = normal(rng, rows, depth, dtype=dtype)
    (want,) = oracle.qlinear(numpy_of(x), to_oracle(w))
    sizes = {"in_vec_size": np.int32(depth), "out_vec_size": np.int32(columns), "M": np.int32(rows)}
    return Launch(
        kernel,
        grid=(ceil_div(rows, 2), ceil_div(columns, 8), 1),
        threadgroup=(32, 2, 1),
        buffers=codes(w) | not_batched() | sizes | {"x": x},
        results={"y": Result(dtype, want)},
        source=instantiate(QUANTIZED, kernel, "affine_qmv_wide", TYPE[dtype], group, bits, 2, 8, False),
    )


def affine_gather_qmv_fast(
    rng: np.random.Generator,
    dtype: mx.Dtype,
    *,
    tokens: int,
    experts: int,
    columns: int,
    depth: int,
    group: int,
    bits: int,
) -> Launch:
    """x w[expert]^T for a token each."""
    kernel = f"affine_gather_qmv_fast_{TYPE[dtype]}_gs_{group}_b_{bits}"
    w = quantized(rng, experts, columns, depth, bits=bits, group=group, dtype=dtype)
    x = normal(rng, tokens, 1, depth, dtype=dtype)
    chosen = rng.integers(0, experts, tokens).astype(np.uint32)
    dense = oracle.dequantize(to_oracle(w), depth)

    def strides(array: mx.array) -> np.ndarray:
        return np.array([math.prod(array.shape[i + 1 :]) for i in range(array.ndim)], np.int64)

    batch: dict[str, Buffer] = {
        "x_batch_ndims": np.int32(1),
        "x_shape": np.array(x.shape, np.int32),
        "x_strides": strides(x),
        "w_batch_ndims": np.int32(1),
        "w_shape": np.array(w.weight.shape, np.int32),
        "w_strides": strides(w.weight),
        "s_strides": strides(w.scales),
        "b_strides": strides(w.biases),
        "batch_ndims": np.int32(1),
        "batch_shape": np.array([tokens], np.int32),
        "lhs_strides": np.ones(1, np.int64),
        "rhs_strides": np.ones(1, np.int64),
    }
    sizes = {"in_vec_size": np.int32(depth), "out_vec_size": np.int32(columns)}
    indices = {"lhs_indices": np.arange(tokens, dtype=np.uint32), "rhs_indices": chosen}
    return Launch(
        kernel,
        grid=(1, columns // 8, tokens),
        threadgroup=(32, 2, 1),
        buffers=codes(w) | batch | sizes | indices | {"x": x},
        results={"y": Result(dtype, numpy_of(x) @ dense[chosen].transpose(0, 2, 1))},
        source=instantiate(QUANTIZED, kernel, "affine_gather_qmv_fast", TYPE[dtype], group, bits),
    )


def affine_gather_qmm_rhs(
    rng: np.random.Generator,
    dtype: mx.Dtype,
    *,
    sizes: tuple[int, ...],
    columns: int,
    depth: int,
    group: int,
    bits: int,
) -> Launch:
    """x w[expert]^T in tiles of 16 by 32 for tokens sorted by expert; ``sizes`` counts each expert's tokens."""
    kernel = f"affine_gather_qmm_rhs_nt_{TYPE[dtype]}_gs_{group}_b_{bits}_bm_16_bn_32_bk_32_wm_1_wn_2"
    experts, tokens = len(sizes), sum(sizes)
    w = quantized(rng, experts, columns, depth, bits=bits, group=group, dtype=dtype)
    x = normal(rng, tokens, depth, dtype=dtype)
    expert = np.repeat(np.arange(experts), sizes)
    dense, biases = (part[expert].swapaxes(-1, -2) for part in expanded(w, depth))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    scalars = {"M": tokens, "N": columns, "K": depth, "num_groups": experts}
    return Launch(
        kernel,
        grid=(ceil_div(columns, 32), ceil_div(tokens, 16) + experts, 1),
        threadgroup=(32, 2, 1),
        buffers=codes(w) | {name: np.int32(n) for name, n in scalars.items()} | {"x": x, "offsets": offsets},
        results={"y": tiled_product(dtype, numpy_of(x)[:, None], dense, biases)},
        source=instantiate(
            QUANTIZED, kernel, "affine_gather_qmm_rhs", TYPE[dtype], group, bits, 16, 32, 32, 1, 2, True
        ),
        constants={200: tokens % 16 == 0, 201: columns % 32 == 0, 202: depth % 32 == 0},
    )


def affine_dequantize(
    rng: np.random.Generator, dtype: mx.Dtype, *, rows: int, depth: int, group: int, bits: int
) -> Launch:
    """The matrix that the codes stand for, computed in its dtype."""
    kernel = f"affine_dequantize_{TYPE[dtype]}_gs_{group}_b_{bits}"
    w = quantized(rng, rows, depth, bits=bits, group=group, dtype=dtype)
    want = oracle.dequantize(to_oracle(w), depth)
    offset = np.repeat(numpy_of(w.biases), group, axis=1)
    rounded_twice = ROUNDOFF[dtype] * (np.abs(want - offset) * (1 + ROUNDOFF[dtype]) + np.abs(want))
    per_thread = 8 // bits
    return Launch(
        kernel,
        grid=(1, rows, 1),
        threadgroup=(depth // per_thread, 1, 1),
        buffers={**codes(w), "w": np.array(w.weight).view(np.uint8)},
        results={"out": Result(dtype, want, rounded_twice)},
        source=instantiate(QUANTIZED, kernel, "affine_dequantize", TYPE[dtype], group, bits),
    )
