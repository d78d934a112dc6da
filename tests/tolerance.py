"""The tolerance table: how far a result may lie from its float64 oracle. Every test of a number uses it.

An oracle sees the inputs as the op sees them, after rounding to their dtype, so an error is the op's alone. The bar is
that of the result's dtype:

- ``l2``: the error of the whole result, relative to the norm of the oracle's. float32 has this bar alone.
- ``peak``: the largest error of one number, relative to the largest magnitude in its row (the last axis). It is the
  unit roundoff: what rounding the exact result once can cost at the top of the row. The scale is the row and not the
  number itself, because a sum of products that nearly cancel is only as good as its terms; and not the whole result,
  because a small row must not hide behind a large one.
- ``best``: the L2 error relative to that of the best possible result, the oracle's rounded to the dtype.

A number too small for the dtype may be flushed to zero: ``tiny`` is forgiven anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from tests.arrays import numpy_of


@dataclass(frozen=True)
class Tolerance:
    """See the module's text."""

    l2: float
    tiny: float
    peak: float | None = None
    best: float = 0.0


TABLE = {
    mx.float32: Tolerance(l2=2e-6, tiny=2.0**-126),
    mx.float16: Tolerance(l2=2e-6, tiny=2.0**-25, peak=2.0**-11, best=3.0),
    mx.bfloat16: Tolerance(l2=2e-6, tiny=2.0**-126, peak=2.0**-8, best=3.0),
}
"""By dtype of the result. The halves' ``l2`` comes on top of their ``best``, for results that are exact in them."""

LONG_STATE_L2 = 1e-5
"""Of a DeltaNet state after 4,096 tokens, in place of ``l2``."""

GRADIENT = 1e-4
"""Of a derivative in float32, relative, against central differences of the oracle."""

NEAR_TIE = 1e-5
"""Probabilities closer than this, relatively, may swap places in a router's choice, unless they are equal: a logit 40
below the largest has its distance rounded to 4e-6 in float32."""


def assert_close(
    got: mx.array, want: np.ndarray, what: str = "result", *, l2: float | None = None, tiny: float = 0.0
) -> None:
    """Hold ``got`` to the table. ``l2`` replaces the table's, ``tiny`` too where it is larger."""
    bar = TABLE[got.dtype]
    tiny = max(tiny, bar.tiny)
    values = numpy_of(got)
    assert values.shape == want.shape, f"{what} has shape {values.shape}, expected {want.shape}"
    if want.size == 0:
        return

    rounded = numpy_of(mx.array(want.astype(np.float32)).astype(got.dtype))
    finite = np.isfinite(rounded)
    assert np.array_equal(values[~finite], rounded[~finite], equal_nan=True), f"{what}: lacks NaN or infinity"
    assert np.isfinite(values[finite]).all(), f"{what}: {(~np.isfinite(values[finite])).sum()} stray NaN or infinities"
    values, want, rounded = (np.where(finite, x, 0.0) for x in (values, want, rounded))

    error = np.abs(values - want)
    allowed = (l2 or bar.l2) * norm(want) + bar.best * norm(rounded - want) + tiny * np.sqrt(want.size)
    assert norm(error) <= allowed, (
        f"{what}: relative L2 error {norm(error) / (norm(want) + tiny):.3g}, "
        f"allowed {allowed / (norm(want) + tiny):.3g}, worst at {worst(error)}"
    )
    if bar.peak is not None:
        limit = np.broadcast_to(bar.peak * np.abs(want).max(axis=-1, keepdims=True) + tiny, error.shape)
        at = worst(error - limit)
        assert error[at] <= limit[at], f"{what}: error {error[at]:.3g} at {at}, allowed {limit[at]:.3g}"


def norm(x: np.ndarray) -> float:
    """The L2 norm of all of x."""
    return float(np.sqrt((x * x).sum()))


def worst(error: np.ndarray) -> tuple[int, ...]:
    """Where the largest error is."""
    return tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))
