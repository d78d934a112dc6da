"""attention against its oracle."""

from __future__ import annotations

from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltamoe import ops
from tests.arrays import BF16, F32, FLOATS, normal, poisoned
from tests.backends import BACKENDS, Backend
from tests.ops.case import Case

Shape = tuple[int, int, int, int, int, int]
"""B, Hq, Hkv, T, S, D"""


@cache
def case(shape: Shape, dtype: mx.Dtype, gate: bool = True, causal: bool = True) -> Case:
    batch, heads, kv_heads, steps, keys, width = shape
    rng = np.random.default_rng(list(shape))
    return Case(
        "attention",
        q=normal(rng, batch, heads, steps, width, dtype=dtype),
        k=normal(rng, batch, kv_heads, keys, width, dtype=dtype),
        v=normal(rng, batch, kv_heads, keys, width, dtype=dtype),
        scale=width**-0.5,
        gate=normal(rng, batch, steps, heads * width, dtype=dtype) if gate else None,
        causal=causal,
    )


SHAPES: list[Shape] = [
    (1, 1, 1, 1, 1, 64),
    (1, 2, 2, 1, 5, 16),
    (2, 16, 2, 1, 33, 256),
    (1, 16, 1, 1, 5000, 256),
    (1, 8, 8, 1, 1025, 128),
    (1, 32, 2, 1, 700, 64),
    (3, 4, 4, 2, 2, 48),
    (1, 8, 1, 7, 40, 128),
    (1, 16, 2, 16, 16, 256),
    (2, 2, 1, 17, 90, 512),
    (1, 4, 1, 130, 130, 64),
    (1, 2, 2, 130, 130, 256),
    (1, 16, 1, 33, 257, 128),
    (1, 2, 1, 9, 3001, 64),
    (2, 8, 2, 65, 64 + 65, 80),
]


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "all"])
@pytest.mark.parametrize("gate", [True, False], ids=["gate", "bare"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(backend: Backend, shape: Shape, dtype: mx.Dtype, gate: bool, causal: bool) -> None:
    case(shape, dtype, gate, causal).check(backend)


@given(data=st.data())
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_any_shape(backend: Backend, data: st.DataObject) -> None:
    kv_heads, steps = data.draw(st.integers(1, 3), "Hkv"), data.draw(st.integers(1, 40), "T")
    shape = (
        data.draw(st.integers(1, 2), "B"),
        kv_heads * data.draw(st.sampled_from([1, 2, 3, 8]), "Hq / Hkv"),
        kv_heads,
        steps,
        steps + data.draw(st.integers(0, 150), "S - T"),
        16 * data.draw(st.integers(1, 12), "D / 16"),
    )
    dtype = data.draw(st.sampled_from(FLOATS), "dtype")
    case(shape, dtype, data.draw(st.booleans(), "gate"), data.draw(st.booleans(), "causal")).check(backend)


@pytest.mark.parametrize("dtype", FLOATS)
def test_more_queries_than_keys(backend: Backend, dtype: mx.Dtype) -> None:
    case((1, 4, 2, 20, 3, 32), dtype, causal=False).check(backend)


@pytest.mark.parametrize("shape", [(0, 2, 1, 3, 5, 32), (2, 2, 1, 0, 5, 32), (2, 2, 1, 0, 0, 32)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing(backend: Backend, shape: Shape, dtype: mx.Dtype) -> None:
    case(shape, dtype).check(backend)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("steps", "keys"), [(1, 700), (1, 31), (12, 60)])
def test_slices_of_a_cache(backend: Backend, steps: int, keys: int, dtype: mx.Dtype) -> None:
    """k and v as mlx-lm's cache hands them over: the head of a longer buffer; q as a projection leaves it."""
    good = case((2, 8, 2, steps, keys, 64), dtype).arguments

    def cached(x: mx.array) -> mx.array:
        return mx.contiguous(mx.concatenate([x, poisoned(x)], axis=2))[:, :, :keys]

    strided = {
        "q": mx.contiguous(good["q"].swapaxes(1, 2)).swapaxes(1, 2),
        "k": cached(good["k"]),
        "v": cached(good["v"]),
    }
    Case("attention", **{**good, **strided}).check(backend)


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize(("steps", "keys"), [(1, 300), (10, 50)])
def test_sharp_scores(backend: Backend, steps: int, keys: int, dtype: mx.Dtype) -> None:
    """Scores of hundreds do not overflow; one key takes nearly all."""
    rng = np.random.default_rng(1)
    arguments = dict(case((1, 4, 2, steps, keys, 64), dtype).arguments)
    # integers, so that scores are exact in float32 and only the softmax is tested
    arguments["q"] = mx.array(rng.integers(-8, 9, (1, 4, steps, 64)).astype(np.float32)).astype(dtype)
    arguments["k"] = mx.array(rng.integers(-8, 9, (1, 2, keys, 64)).astype(np.float32)).astype(dtype)
    arguments["scale"] = 0.5
    Case("attention", **arguments).check(backend)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "all"])
def test_scores_far_below_zero(backend: Backend, causal: bool) -> None:
    """The largest score, not zero, is what a softmax must start from."""
    rng = np.random.default_rng(2)
    arguments = dict(case((1, 2, 1, 6, 40, 32), F32, causal=causal).arguments)
    arguments["q"], arguments["k"] = mx.full((1, 2, 6, 32), 16.0), mx.full((1, 1, 40, 32), -16.0)
    arguments["k"][:, :, :, 0] += mx.array(rng.integers(0, 2, 40).astype(np.float32)) / 16
    arguments["scale"] = 1.0
    Case("attention", **arguments).check(backend)


def test_future_keys_are_not_read(backend: Backend) -> None:
    """What a query may not see may be anything, NaN included, if no other query sees it either."""
    good = case((1, 4, 2, 5, 30, 32), F32)
    (y,) = backend.run("attention", **good.arguments)
    k, v = mx.array(good.arguments["k"]), mx.array(good.arguments["v"])
    k[:, :, -1], v[:, :, -1] = 1e30, 1e30
    (z,) = backend.run("attention", **{**good.arguments, "k": k, "v": v})
    assert mx.array_equal(y[:, :-1], z[:, :-1])
    assert not mx.array_equal(y[:, -1], z[:, -1])


def bad_calls() -> dict[str, dict[str, Any]]:
    good = case((2, 4, 2, 3, 5, 32), F32).arguments
    q, k, v, gate = (good[name] for name in ("q", "k", "v", "gate"))
    return {
        "q of three axes": {"q": q[0]},
        "k of three axes": {"k": k[0]},
        "q of integers": {"q": q.astype(mx.int32), "k": k.astype(mx.int32), "v": v.astype(mx.int32)},
        "k of another dtype": {"k": k.astype(BF16)},
        "v of another dtype": {"v": v.astype(BF16)},
        "gate of another dtype": {"gate": gate.astype(BF16)},
        "heads that do not divide": {"q": q[:, :3], "gate": gate[..., :96]},
        "no heads in k": {"k": k[:, :0], "v": v[:, :0]},
        "another batch in k": {"k": k[:1], "v": v[:1]},
        "k shorter than v": {"k": k[:, :, :4]},
        "k of another width": {"k": k[..., :16], "v": v[..., :16]},
        "an odd width": {"q": q[..., :24], "k": k[..., :24], "v": v[..., :24], "gate": gate[..., :96]},
        "a width above 512": {
            "q": mx.zeros((2, 4, 3, 528)),
            "k": mx.zeros((2, 2, 5, 528)),
            "v": mx.zeros((2, 2, 5, 528)),
            "gate": None,
        },
        "fewer keys than queries": {"k": k[:, :, :2], "v": v[:, :, :2]},
        "gate of another shape": {"gate": gate[:, :2]},
        "gate with heads apart": {"gate": gate.reshape(2, 3, 4, 32)},
    }


@pytest.mark.parametrize("bad", bad_calls())
def test_bad_input(bad: str) -> None:
    with pytest.raises(ValueError, match="attention"):
        ops.attention(**{**case((2, 4, 2, 3, 5, 32), F32).arguments, **bad_calls()[bad]})
