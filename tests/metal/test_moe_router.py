"""The router's shader on the simulator, against the oracle: the same plan and text that a Mac gets."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from tests.arrays import BF16, F16, F32, FLOATS, normal, short
from tests.metal.plans import SimulatedMetal
from tests.ops.case import Case
from tests.ops.test_moe_router import check
from tests.tolerance import assert_close

INF = float("inf")
METAL = SimulatedMetal()
FAST = SimulatedMetal(checked=False)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("tokens", "experts", "k", "dtype"),
    [
        (0, 8, 2, BF16),
        (1, 512, 10, BF16),
        (2, 256, 8, BF16),
        (3, 1, 1, F32),
        (7, 8, 8, F16),
        (8, 17, 16, F32),
        (9, 33, 32, BF16),
        (17, 60, 4, F32),
        (3, 1024, 16, F16),
        (2, 1000, 10, F32),
        (1, 1024, 1, BF16),
    ],
    ids=short,
)
def test_shapes(tokens: int, experts: int, k: int, dtype: mx.Dtype, normalize: bool) -> None:
    rng = np.random.default_rng([tokens, experts, k])
    check(METAL, normal(rng, tokens, experts, dtype=dtype, scale=2.0), k, normalize)


def test_many_rows() -> None:
    check(FAST, normal(np.random.default_rng(2), 4_100, 5), 2)


@pytest.mark.parametrize("dtype", FLOATS, ids=short)
@pytest.mark.parametrize("experts", [4, 37, 512])
def test_ties(experts: int, dtype: mx.Dtype) -> None:
    """Few distinct values: every choice meets ties, and of equal experts those with the larger index are chosen."""
    rows = np.random.default_rng([3, experts]).integers(0, 3, (20, experts)).astype(np.float32)
    rows[0] = 0
    for k in sorted({1, 3, min(experts, 16)}):
        Case("moe_router", logits=mx.array(rows).astype(dtype), k=k).check(FAST)


def test_ties_are_resolved_as_stock_does() -> None:
    logits = mx.array(np.random.default_rng(4).integers(0, 4, (20, 256)).astype(np.float32))
    stock = mx.argpartition(mx.softmax(logits, axis=-1, precise=True), kth=-8, axis=-1)[..., -8:]
    indices, _ = FAST.run("moe_router", logits=logits, k=8)
    assert mx.array_equal(mx.sort(indices, axis=-1), mx.sort(stock, axis=-1))


def test_probabilities_that_underflow_tie() -> None:
    indices, scores = METAL.run("moe_router", logits=mx.array([[0.0, -1000.0, -2000.0, -1500.0, -3000.0]]), k=3)
    assert indices.tolist() == [[3, 4, 0]]
    assert scores.tolist() == [[0.0, 0.0, 1.0]]


def test_large_logits_do_not_overflow() -> None:
    check(METAL, mx.array([[1e4, 1e4 - 1.0, -1e4, 1e4 - 3.0], [3e38, -3e38, 0.0, 1.0]]), 2)


def test_denormals() -> None:
    """Denormal logits, flushed or not, are all as good as 0."""
    _, scores = METAL.run("moe_router", logits=normal(np.random.default_rng(5), 3, 40, scale=2.0**-130), k=8)
    assert_close(scores, np.full((3, 8), 1 / 8), "scores")


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", FLOATS, ids=short)
@pytest.mark.parametrize("k", [1, 3, 20])
def test_rows_without_a_softmax(k: int, dtype: mx.Dtype, normalize: bool) -> None:
    """NaN scores and valid indices, in that row only."""
    rows = np.random.default_rng(5).standard_normal((7, 20)).astype(np.float32)
    rows[1, 4] = np.nan
    rows[2] = -INF
    rows[3, 19] = INF
    rows[4, [0, 7]] = INF
    rows[5] = np.nan
    # -inf beside numbers is an expert that is never chosen before another
    rows[6, :15] = -INF
    logits = mx.array(rows).astype(dtype)
    check(METAL, logits, k, normalize)
    indices, scores = METAL.run("moe_router", logits=logits, k=k, normalize=normalize)
    assert mx.isnan(scores).all(axis=-1).tolist() == [False, True, True, True, True, True, False]
    assert all(len(set(row)) == k for row in indices.tolist())


def test_same_bits_whatever_the_order_of_simdgroups() -> None:
    logits = normal(np.random.default_rng(6), 17, 100, dtype=BF16)
    first, *others = (SimulatedMetal(seed=seed).run("moe_router", logits=logits, k=10) for seed in range(4))
    for other in others:
        assert all(mx.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_counts() -> None:
    """One simdgroup a token, no barrier, each logit loaded once."""
    tokens, experts, k, scalars = 3, 512, 10, 3
    METAL.run("moe_router", logits=normal(np.random.default_rng(7), tokens, experts, dtype=BF16), k=k)
    (result,) = METAL.results
    assert result.counters.barriers == 0
    assert result.counters.simd_ops == tokens * (2 * k + 3)
    assert result.counters.device_lines_loaded == tokens * experts * 2 // 128 + scalars
