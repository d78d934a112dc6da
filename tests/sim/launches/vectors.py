"""Number by number, reductions, scans, sorting."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np

from tests.arrays import F32, normal, numpy_of
from tests.oracle.maths import sigmoid
from tests.sim.launches.launch import NAME, ROUNDOFF, TYPE, Launch, Result, ceil_div, instantiate

FUNCTION: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Exp": np.exp,
    "LogAddExp": np.logaddexp,
    "Multiply": np.multiply,
    "Sigmoid": sigmoid,
}
"""By MLX's name."""


def arange(rng: np.random.Generator, dtype: mx.Dtype, *, length: int) -> Launch:
    """start + i step"""
    kernel = f"arange{NAME[dtype]}"
    start, step = (normal(rng, 1, dtype=dtype) for _ in range(2))
    product = np.arange(length) * numpy_of(step)
    want = numpy_of(start) + product
    rounded_thrice = ROUNDOFF[dtype] * (2 * np.abs(product) * (1 + ROUNDOFF[dtype]) + np.abs(want))
    return Launch(
        kernel,
        grid=(1, 1, 1),
        threadgroup=(length, 1, 1),
        buffers={"start": start, "step": step},
        results={"out": Result(dtype, want, rounded_thrice)},
        source=instantiate("utils.h arange.h", kernel, "arange", TYPE[dtype]),
    )


def binary_vv(rng: np.random.Generator, dtype: mx.Dtype, *, operation: str, length: int) -> Launch:
    """Of two vectors, several numbers per thread."""
    kernel = f"vvn_{operation}{NAME[dtype]}"
    a, b = (normal(rng, length, dtype=dtype) for _ in range(2))
    per_thread = 8 // dtype.size
    return Launch(
        kernel,
        grid=(1, 1, 1),
        threadgroup=(ceil_div(length, per_thread), 1, 1),
        buffers={"a": a, "b": b, "size": np.uint32(length)},
        results={"c": Result(dtype, FUNCTION[operation](numpy_of(a), numpy_of(b)))},
        source=instantiate(
            "defines.h utils.h binary_ops.h binary.h",
            kernel,
            *("binary_vv", TYPE[dtype], TYPE[dtype], operation),
            before="#include <metal_integer>\n#include <metal_math>\n",
        ),
    )


def unary_v(rng: np.random.Generator, dtype: mx.Dtype, *, operation: str, length: int) -> Launch:
    """Of a vector, several numbers per thread."""
    kernel = f"vn_{operation}{NAME[dtype]}{NAME[dtype]}"
    x = normal(rng, length, dtype=dtype)
    per_thread = 8 // dtype.size
    return Launch(
        kernel,
        grid=(1, 1, 1),
        threadgroup=(ceil_div(length, per_thread), 1, 1),
        buffers={"in": x, "size": np.uint32(length)},
        results={"out": Result(dtype, FUNCTION[operation](numpy_of(x)))},
        source=instantiate("utils.h unary_ops.h unary.h", kernel, *("unary_v", TYPE[dtype], TYPE[dtype], operation)),
    )


def copy_v(rng: np.random.Generator, dtype: mx.Dtype, *, source: mx.Dtype, length: int) -> Launch:
    """A vector in another dtype, several numbers per thread."""
    kernel = f"vn_copy{NAME[source]}{NAME[dtype]}"
    x = normal(rng, length, dtype=source)
    per_thread = 8 // dtype.size
    return Launch(
        kernel,
        grid=(1, 1, 1),
        threadgroup=(ceil_div(length, per_thread), 1, 1),
        buffers={"src": x, "size": np.uint32(length)},
        results={"dst": Result(dtype, numpy_of(x))},
        source=instantiate("utils.h copy.h", kernel, "copy_v", TYPE[source], TYPE[dtype]),
    )


REDUCE = "#include <metal_atomic>\n#include <metal_simdgroup>\n"


def row_reduce_simple(rng: np.random.Generator, dtype: mx.Dtype, *, rows: int, width: int) -> Launch:
    """Sums of rows, four rows to a threadgroup, the last four again where rows are not a multiple of four."""
    kernel = f"row_reduce_simple_sum{NAME[dtype]}"
    x = normal(rng, rows, width, dtype=dtype, mean=1.0)
    # in its own dtype: a thread's numbers, then a tree in the simdgroup and one over the simdgroups
    additions = (4 * ceil_div(width, 4 * 64) + 2 * 5) * ROUNDOFF[dtype] * np.abs(numpy_of(x)).sum(axis=-1)
    return Launch(
        kernel,
        grid=(1, ceil_div(rows, 4), 1),
        threadgroup=(64, 1, 1),
        buffers={"in": x, "reduction_size": np.uint64(width), "out_size": np.int64(rows)},
        results={"out": Result(dtype, numpy_of(x).sum(axis=-1), None if dtype == F32 else additions)},
        source=instantiate(
            "defines.h utils.h atomic.h reduction/ops.h reduce.h",
            kernel,
            *("row_reduce_simple", TYPE[dtype], TYPE[dtype], f"Sum<{TYPE[dtype]}>"),
            before=REDUCE,
        ),
    )


def contiguous_scan(rng: np.random.Generator, dtype: mx.Dtype, *, rows: int, width: int, threads: int) -> Launch:
    """Cumulative sums of rows."""
    kernel = f"contig_scan_inclusive_sum_{NAME[dtype]}_{NAME[dtype]}"
    x = normal(rng, rows, width, dtype=dtype, mean=1.0)
    return Launch(
        kernel,
        grid=(1, rows, 1),
        threadgroup=(threads, 1, 1),
        buffers={"in": x, "axis_size": np.uint64(width)},
        results={"out": Result(dtype, np.cumsum(numpy_of(x), axis=-1))},
        source=instantiate(
            "defines.h utils.h scan.h",
            kernel,
            *("contiguous_scan", TYPE[dtype], TYPE[dtype], f"CumSum<{TYPE[dtype]}>", 4, True, False),
            before="#include <metal_math>\n#include <metal_simdgroup>\nusing namespace metal;\n",
        ),
    )


def block_sort(rng: np.random.Generator, dtype: mx.Dtype, *, rows: int, width: int) -> Launch:
    """Rows in ascending order."""
    kernel = f"c_block_sort_{NAME[dtype]}_{NAME[dtype]}_bn32_tn4"
    x = normal(rng, rows, width, dtype=dtype)
    strides = {
        f"{array}_stride_{axis}_axis": n for array in ("in", "out") for axis, n in (("sorted", 1), ("segment", width))
    }
    return Launch(
        kernel,
        grid=(1, rows, 1),
        threadgroup=(32, 1, 1),
        buffers={"inp": x, "size_sorted_axis": np.int32(width), **{name: np.int32(n) for name, n in strides.items()}},
        results={"out": Result(dtype, np.sort(numpy_of(x), axis=-1))},
        source=instantiate(
            "utils.h sort.h",
            kernel,
            *("block_sort", TYPE[dtype], TYPE[dtype], False, 32, 4),
            before="#include <metal_stdlib>\n",
        ),
    )
