"""What stock mlx-lm dispatches for a mixture of experts: MLX 0.32.4's kernels, chosen by its rules.

The rules are those of mlx/backend/metal/quantized.cpp for an M3 Ultra. Where it splits qmm's columns (split-K), one qmm
stands for it: that loads the same weights and makes the same matrix operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deltamoe.bench.simulate import Array, Launch, instantiation

__all__ = ["BLOCK", "Matrix", "gather_qmm", "is_grouped", "is_sorted", "qmm"]

BLOCK = {
    "quantized matmul: gate; shared gate, up, down; shared_expert_gate": 5,
    "gather_qmm: up, gate, down": 3,
    "arange, for gather_qmm's left-hand indices": 3,
    "swiglu: routed, shared": 2,
    "sum: of the scores, over experts": 2,
    "multiply: by scores, by the shared expert's gate": 2,
    "softmax": 1,
    "sort, for argpartition": 1,
    "gather_axis, for take_along_axis": 1,
    "divide": 1,
    "sigmoid": 1,
    "add": 1,
}
"""Dispatches of mlx-lm's SparseMoeBlock with MLX's dispatch rules. Where pairs are sorted there are more."""

TYPE = "bfloat16_t"


@dataclass(frozen=True)
class Matrix:
    """A quantised matrix, or a stack of such; scales and biases are the bits of bfloat16."""

    codes: Array
    scales: Array
    biases: Array
    group: int
    bits: int

    @property
    def rows(self) -> int:
        return int(self.scales.shape[-2])

    @property
    def columns(self) -> int:
        return int(self.scales.shape[-1] * self.group)

    @property
    def nbytes(self) -> int:
        return int(self.codes.nbytes + self.scales.nbytes + self.biases.nbytes)

    @property
    def buffers(self) -> dict[str, Array | np.generic]:
        return {"w": self.codes, "scales": self.scales, "biases": self.biases}


def is_sorted(pairs: int) -> bool:
    """Whether mlx-lm's SwitchGLU sorts pairs of token and expert by expert."""
    return pairs >= 64


def is_grouped(pairs: int, experts: int) -> bool:
    """Whether MLX multiplies an expert's rows together, and not pair by pair."""
    return is_sorted(pairs) and pairs // experts >= 4


def gather_qmm(w: Matrix, x: Array, lhs: Array, rhs: Array, experts: int) -> Launch:
    """x[lhs] w[rhs]^T for each pair of token and expert. ``experts``: of the model, of which w may hold fewer."""
    return _gather_qmm_rhs(w, x[lhs], rhs) if is_grouped(len(rhs), experts) else _gather_qmv(w, x, lhs, rhs)


def qmm(w: Matrix, x: Array) -> Launch:
    """x w^T"""
    rows = len(x)
    if rows >= _qmv_limit(w):
        return _qmm_t(w, x)
    if w.columns in (64, 128):
        return _qmv(w, x, "qmv_quad", (w.columns, False), f"d_{w.columns}_batch_0", outputs=64, simdgroups=1)
    if rows >= 2:
        return _qmv_wide(w, x)
    fast = w.columns % 512 == 0
    partial = fast and w.rows % 8 != 0
    suffix = f"batch_0_pr_{int(partial)}_hgs_0_r_4"
    arguments = (False, partial, False, 4)
    return _qmv(w, x, "qmv_fast" if fast else "qmv", arguments, suffix, outputs=8, simdgroups=2)


def _qmv_limit(w: Matrix) -> int:
    """Rows of x from which on MLX takes tiles."""
    most = max(w.rows, w.columns)
    return 32 if most <= 2048 else 18 if most <= 4096 else 12


def _qmv(
    w: Matrix, x: Array, function: str, arguments: tuple[object, ...], suffix: str, *, outputs: int, simdgroups: int
) -> Launch:
    return _launch(
        f"affine_{function}_{TYPE}_gs_{w.group}_b_{w.bits}_{suffix}",
        (f"affine_{function}", TYPE, w.group, w.bits, *arguments),
        grid=(len(x), -(-w.rows // outputs), 1),
        threadgroup=(32, simdgroups, 1),
        buffers=w.buffers | _NOT_BATCHED | _sizes(w) | {"x": x, "y": _out(len(x), w.rows)},
    )


def _qmv_wide(w: Matrix, x: Array) -> Launch:
    tiles = -(-len(x) // 5)
    vectors = -(-len(x) // tiles)
    lanes = 8
    return _launch(
        f"affine_qmv_wide_{TYPE}_gs_{w.group}_b_{w.bits}_nv_{vectors}_kl_{lanes}_batch_0",
        ("affine_qmv_wide", TYPE, w.group, w.bits, vectors, lanes, False),
        grid=(-(-len(x) // vectors), -(-w.rows // 8), 1),
        threadgroup=(32, 2, 1),
        buffers=w.buffers | _NOT_BATCHED | _sizes(w) | {"M": np.int32(len(x)), "x": x, "y": _out(len(x), w.rows)},
    )


def _qmm_t(w: Matrix, x: Array) -> Launch:
    aligned = w.rows % 32 == 0
    return _launch(
        f"affine_qmm_t_{TYPE}_gs_{w.group}_b_{w.bits}_alN_{str(aligned).lower()}_batch_0",
        ("affine_qmm_t", TYPE, w.group, w.bits, aligned, False),
        grid=(-(-w.rows // 32), -(-len(x) // 32), 1),
        threadgroup=(32, 2, 2),
        buffers=w.buffers | _NOT_BATCHED | _dimensions(len(x), w) | {"x": x, "y": _out(len(x), w.rows)},
    )


def _gather_qmv(w: Matrix, x: Array, lhs: Array, rhs: Array) -> Launch:
    function = "gather_qmv_fast" if w.columns % 512 == 0 and w.rows % 8 == 0 else "gather_qmv"
    x = x[:, None]
    batch: dict[str, Array | np.generic] = {
        "x_batch_ndims": np.int32(1),
        "x_shape": np.array(x.shape, np.int32),
        "x_strides": _strides(x),
        "w_batch_ndims": np.int32(1),
        "w_shape": np.array(w.codes.shape, np.int32),
        "w_strides": _strides(w.codes),
        "s_strides": _strides(w.scales),
        "b_strides": _strides(w.biases),
        "batch_ndims": np.int32(1),
        "batch_shape": np.array([len(rhs)], np.int32),
        "lhs_strides": np.ones(1, np.int64),
        "rhs_strides": np.ones(1, np.int64),
    }
    return _launch(
        f"affine_{function}_{TYPE}_gs_{w.group}_b_{w.bits}",
        (f"affine_{function}", TYPE, w.group, w.bits),
        grid=(1, -(-w.rows // 8), len(rhs)),
        threadgroup=(32, 2, 1),
        buffers=w.buffers
        | batch
        | _sizes(w)
        | {"lhs_indices": lhs, "rhs_indices": rhs, "x": x, "y": _out(len(rhs), w.rows)},
    )


def _gather_qmm_rhs(w: Matrix, x: Array, rhs: Array) -> Launch:
    experts = len(w.codes)
    offsets = np.searchsorted(rhs, np.arange(experts + 1)).astype(np.int32)
    tile = (16, 32, 32)
    return _launch(
        f"affine_gather_qmm_rhs_nt_{TYPE}_gs_{w.group}_b_{w.bits}_bm_16_bn_32_bk_32_wm_1_wn_2",
        ("affine_gather_qmm_rhs", TYPE, w.group, w.bits, *tile, 1, 2, True),
        grid=(-(-w.rows // tile[1]), -(-len(x) // tile[0]) + experts, 1),
        threadgroup=(32, 2, 1),
        buffers=w.buffers
        | _dimensions(len(x), w)
        | {"num_groups": np.int32(experts), "offsets": offsets, "x": x, "y": _out(len(x), w.rows)},
        constants={200: len(x) % tile[0] == 0, 201: w.rows % tile[1] == 0, 202: w.columns % tile[2] == 0},
    )


def _launch(
    kernel: str,
    template: tuple[object, ...],
    *,
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    buffers: Mapping[str, Array | np.generic],
    constants: Mapping[int | str, bool] | None = None,
) -> Launch:
    """``template``: the function in MLX's headers, and its arguments."""
    headers = "utils.h steel/gemm/gemm.h quantized_utils.h quantized.h"
    return Launch(
        kernel,
        instantiation(headers, kernel, *template),
        grid,
        threadgroup,
        buffers,
        weights=("w", "scales", "biases"),
        constants=constants or {},
    )


_NOT_BATCHED: dict[str, Array | np.generic] = {
    **{f"{name}_batch_ndims": np.int32(0) for name in "xw"},
    **{f"{name}_shape": np.zeros(1, np.int32) for name in "xw"},
    **{f"{name}_strides": np.zeros(1, np.int64) for name in "xwsb"},
}
"""What a kernel of one matrix takes and does not read."""


def _sizes(w: Matrix) -> dict[str, Array | np.generic]:
    return {"in_vec_size": np.int32(w.columns), "out_vec_size": np.int32(w.rows)}


def _dimensions(rows: int, w: Matrix) -> dict[str, Array | np.generic]:
    return {"M": np.int32(rows), "N": np.int32(w.rows), "K": np.int32(w.columns)}


def _strides(array: Array) -> Array:
    return np.array([math.prod(array.shape[i + 1 :]) for i in range(array.ndim)], np.int64)


def _out(rows: int, columns: int) -> Array:
    return np.empty((rows, columns), np.uint16)
