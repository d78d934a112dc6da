"""moe_router against its oracle."""

from __future__ import annotations

from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltamoe import ops
from tests import oracle
from tests.arrays import F32, FLOATS, normal, numpy_of
from tests.backends import BACKENDS, Backend
from tests.ops.case import Case
from tests.oracle.maths import softmax
from tests.tolerance import NEAR_TIE, assert_close

INF = float("inf")


def check(backend: Backend, logits: mx.array, k: int, normalize: bool = True) -> None:
    """Scores to the oracle's; indices too, except where float32 cannot tell two probabilities apart."""
    indices, scores = backend.run("moe_router", logits=logits, k=k, normalize=normalize)
    assert indices.dtype == mx.uint32
    assert scores.dtype == F32
    experts = logits.shape[-1]
    want_indices, want_scores = oracle.moe_router(numpy_of(logits), k, normalize)
    got_indices = np.array(indices).astype(np.int64)
    assert got_indices.shape == want_indices.shape == want_scores.shape
    assert (got_indices < experts).all()
    assert_close(scores, want_scores, "scores")
    valid = ~np.isnan(want_scores).any(axis=-1)
    for row, chosen in zip(numpy_of(logits)[valid], got_indices[valid], strict=True):
        assert len(set(chosen.tolist())) == k, "an expert is chosen twice"
        p = softmax(row)
        ranked = [(a, b) for a, b in pairwise(chosen) if above(p, a, b)]
        assert not ranked, f"out of order: {ranked}"
        others = set(range(experts)) - set(chosen.tolist())
        missed = [(e, c) for e in others for c in chosen[:1] if above(p, e, c)]
        assert not missed, f"{missed[0][0]} is not chosen, {missed[0][1]} is"


def above(p: np.ndarray, a: int, b: int) -> bool:
    """Whether expert a certainly ranks above b."""
    if p[a] == p[b]:
        return a > b
    return bool(p[a] > p[b] * (1 + NEAR_TIE) + 2.0**-126)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("tokens", "experts", "k"),
    [
        (1, 512, 10),
        (3, 256, 8),
        (7, 1, 1),
        (2, 5, 5),
        (4, 17, 1),
        (9, 33, 32),
        (64, 250, 3),
        (205, 60, 4),
        (2, 1030, 64),
    ],
)
def test_shapes(backend: Backend, tokens: int, experts: int, k: int, dtype: mx.Dtype, normalize: bool) -> None:
    rng = np.random.default_rng([tokens, experts, k])
    check(backend, normal(rng, tokens, experts, dtype=dtype, scale=2.0), k, normalize)


@given(data=st.data())
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_any_logits(backend: Backend, data: st.DataObject) -> None:
    experts = data.draw(st.integers(1, 40), "E")
    logit = st.floats(-20, 20, width=16) | st.sampled_from([-INF, 0.0, 1.0])
    rows = data.draw(st.lists(st.lists(logit, min_size=experts, max_size=experts), min_size=0, max_size=4), "rows")
    logits = mx.array(np.array(rows, np.float32).reshape(-1, experts))
    check(backend, logits, data.draw(st.integers(1, experts), "k"), data.draw(st.booleans(), "normalize"))


@pytest.mark.parametrize("batch", [(), (0,), (2, 0), (1, 1), (3, 2)])
def test_batch_shapes(backend: Backend, batch: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    indices, scores = Case("moe_router", logits=normal(rng, *batch, 12), k=4).check(backend)
    assert indices.shape == scores.shape == (*batch, 4)


def test_many_rows(backend: Backend) -> None:
    check(backend, normal(np.random.default_rng(2), 33_000, 5), 2)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("experts", [4, 16, 37, 512])
def test_ties(backend: Backend, experts: int, dtype: mx.Dtype) -> None:
    """Few distinct values: every choice meets ties, and of equal experts those with the larger index are chosen."""
    rng = np.random.default_rng([3, experts])
    logits = mx.array(rng.integers(0, 3, (20, experts)).astype(np.float32)).astype(dtype)
    logits[0] = 0.0
    for k in {1, 2, 3, experts // 2, experts}:
        Case("moe_router", logits=logits, k=k).check(backend)


@pytest.mark.parametrize(("experts", "k"), [(8, 3), (64, 8), (512, 10)])
def test_ties_are_resolved_as_stock_does(backend: Backend, experts: int, k: int) -> None:
    rng = np.random.default_rng([4, experts])
    logits = mx.array(rng.integers(0, 4, (50, experts)).astype(np.float32))
    stock = mx.argpartition(mx.softmax(logits, axis=-1, precise=True), kth=-k, axis=-1)[..., -k:]
    indices, _ = backend.run("moe_router", logits=logits, k=k)
    assert mx.array_equal(mx.sort(indices, axis=-1), mx.sort(stock, axis=-1))


def test_probabilities_that_underflow_tie(backend: Backend) -> None:
    logits = mx.array([[0.0, -1000.0, -2000.0, -1500.0, -3000.0]])
    indices, scores = backend.run("moe_router", logits=logits, k=3)
    assert indices.tolist() == [[3, 4, 0]]
    assert scores.tolist() == [[0.0, 0.0, 1.0]]


def test_large_logits_do_not_overflow(backend: Backend) -> None:
    check(backend, mx.array([[1e4, 1e4 - 1.0, -1e4, 1e4 - 3.0], [3e38, -3e38, 0.0, 1.0]]), 2)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("k", [1, 3, 20])
def test_rows_without_a_softmax(backend: Backend, k: int, dtype: mx.Dtype, normalize: bool) -> None:
    """NaN scores and valid indices, in that row only."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((7, 20)).astype(np.float32)
    rows[1, 4] = np.nan
    rows[2] = -INF
    rows[3, 19] = INF
    rows[4, [0, 7]] = INF
    rows[5] = np.nan
    # -inf beside numbers is an expert that is never chosen before another
    rows[6, :15] = -INF
    logits = mx.array(rows).astype(dtype)
    check(backend, logits, k, normalize)
    _, scores = backend.run("moe_router", logits=logits, k=k, normalize=normalize)
    assert mx.isnan(scores).all(axis=-1).tolist() == [False, True, True, True, True, True, False]


def bad_calls() -> dict[str, tuple[mx.array, int]]:
    logits = mx.zeros((2, 8))
    return {
        "k of 0": (logits, 0),
        "negative k": (logits, -1),
        "k above the experts": (logits, 9),
        "no experts": (mx.zeros((2, 0)), 1),
        "logits without axes": (mx.array(1.0), 1),
        "logits of integers": (mx.zeros((2, 8), mx.int32), 2),
    }


@pytest.mark.parametrize("bad", bad_calls())
def test_bad_input(bad: str) -> None:
    with pytest.raises(ValueError, match="moe_router"):
        ops.moe_router(*bad_calls()[bad])
