"""Softmax and its like: a threadgroup to a row, four numbers to a thread."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from tests.arrays import F32, normal, numpy_of
from tests.oracle.maths import softmax
from tests.sim.launches.launch import NAME, ROUNDOFF, TYPE, Launch, Result, ceil_div, instantiate

ROW_KERNEL = "#include <metal_common>\n#include <metal_simdgroup>\nusing namespace metal;\n"


def row_threads(width: int, *, looped: bool, reads: int = 4) -> int:
    """Threads of a row's threadgroup."""
    return 1024 if looped else 32 * ceil_div(ceil_div(width, reads), 32)


def softmax_row(
    rng: np.random.Generator, dtype: mx.Dtype, *, width: int, looped: bool = False, precise: bool = False
) -> Launch:
    """softmax over rows; ``precise`` computes in float32, else it computes in its dtype."""
    kernel = f"{'looped' if looped else 'block'}_softmax_{'precise_' if precise else ''}{NAME[dtype]}"
    function = "softmax_looped" if looped else "softmax_single_row"
    types = [TYPE[dtype], "float"] if precise else [TYPE[dtype]]
    x = normal(rng, 2, width, dtype=dtype)
    want = softmax(numpy_of(x))
    return Launch(
        kernel,
        grid=(2, 1, 1),
        threadgroup=(row_threads(width, looped=looped), 1, 1),
        buffers={"in": x, "axis_size": np.int32(width)},
        results={"out": Result(dtype, want, None if precise or dtype == F32 else softmax_bound(x, want))},
        source=instantiate("utils.h softmax.h", kernel, function, *types, before=ROW_KERNEL),
    )


def softmax_bound(x: mx.array, want: np.ndarray) -> np.ndarray:
    """Of a softmax whose every step is rounded to x's dtype.

    The distance d from the maximum is rounded, which costs exp(d) a relative error of |d| units, and exp rounds once
    more; the sum makes 4 additions and two times 5 in a tree; then a reciprocal and a product.
    """
    distance = np.ptp(numpy_of(x), axis=-1, keepdims=True)
    return want * (2 * (distance + 1) + 4 + 2 * 5 + 2) * ROUNDOFF[x.dtype]


def logsumexp_row(rng: np.random.Generator, dtype: mx.Dtype, *, width: int, looped: bool = False) -> Launch:
    """log(sum(exp(row)))"""
    kernel = f"{'looped' if looped else 'block'}_logsumexp_{NAME[dtype]}"
    x = normal(rng, 2, width, dtype=dtype)
    values = numpy_of(x)
    return Launch(
        kernel,
        grid=(2, 1, 1),
        threadgroup=(row_threads(width, looped=looped), 1, 1),
        buffers={"in": x, "axis_size": np.int32(width)},
        results={"out": Result(dtype, np.log(np.exp(values).sum(axis=-1)))},
        source=instantiate(
            "utils.h logsumexp.h",
            kernel,
            "logsumexp_looped" if looped else "logsumexp",
            TYPE[dtype],
            before=ROW_KERNEL,
        ),
    )
