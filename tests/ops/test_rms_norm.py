"""rms_norm against its oracle."""

from __future__ import annotations

from functools import cache

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltamoe import ops
from tests.arrays import F32, FLOATS, normal
from tests.backends import BACKENDS, Backend
from tests.ops.case import Case


@cache
def case(shape: tuple[int, ...], dtype: mx.Dtype, weight: mx.Dtype | None = F32, eps: float = 1e-6) -> Case:
    rng = np.random.default_rng([*shape, 1])
    w = None if weight is None else normal(rng, shape[-1], dtype=weight)
    return Case("rms_norm", x=normal(rng, *shape, dtype=dtype), weight=w, eps=eps)


@pytest.mark.parametrize("weight", [None, *FLOATS])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "shape",
    [(1,), (7,), (64,), (1, 2048), (2, 3, 4, 128), (205, 33), (3, 4096), (5, 250), (0, 8), (2, 0, 8), (40_000, 4)],
)
def test_shapes(backend: Backend, shape: tuple[int, ...], dtype: mx.Dtype, weight: mx.Dtype | None) -> None:
    case(shape, dtype, weight).check(backend)


@given(data=st.data())
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_any_shape(backend: Backend, data: st.DataObject) -> None:
    shape = (*data.draw(st.lists(st.integers(0, 5), max_size=3), "batch"), data.draw(st.integers(1, 300), "D"))
    weight = data.draw(st.sampled_from([None, *FLOATS]), "weight")
    case(shape, data.draw(st.sampled_from(FLOATS), "x"), weight).check(backend)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("eps", [0.0, 1e-30, 1e-12, 1e-6, 1e-2, 1.0])
def test_eps(backend: Backend, eps: float, dtype: mx.Dtype) -> None:
    rng = np.random.default_rng(2)
    Case("rms_norm", x=normal(rng, 4, 96, dtype=dtype, scale=0.01), weight=normal(rng, 96), eps=eps).check(backend)


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e4, 1e12])
def test_scale_of_x(backend: Backend, scale: float) -> None:
    rng = np.random.default_rng(3)
    Case("rms_norm", x=normal(rng, 5, 80, scale=scale), weight=None, eps=1e-30).check(backend)


@pytest.mark.parametrize("dtype", FLOATS)
def test_zeros(backend: Backend, dtype: mx.Dtype) -> None:
    Case("rms_norm", x=mx.zeros((3, 40), dtype), weight=None, eps=1e-6).check(backend)


def bad_calls() -> dict[str, tuple[mx.array, mx.array | None, float]]:
    x = mx.zeros((2, 8))
    return {
        "x without axes": (mx.array(1.0), None, 1e-6),
        "x of integers": (x.astype(mx.int32), None, 1e-6),
        "a weight of another size": (x, mx.ones(7), 1e-6),
        "a weight of two axes": (x, mx.ones((1, 8)), 1e-6),
        "a weight of integers": (x, mx.ones(8, mx.int32), 1e-6),
    }


@pytest.mark.parametrize("bad", bad_calls())
def test_bad_input(bad: str) -> None:
    with pytest.raises(ValueError, match="rms_norm"):
        ops.rms_norm(*bad_calls()[bad])
