"""Arrays need not be contiguous: every argument of every op in every layout."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from tests.arrays import BF16, F32, LAYOUTS, map_arrays, normal, quantized
from tests.backends import Backend
from tests.ops.case import Case
from tests.ops.small import BATCHED, OPS, small
from tests.ops.test_moe_experts import experts, routed


@pytest.mark.parametrize("steps", [1, 6, 40])
@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("op", OPS)
def test_layout(backend: Backend, op: str, layout: Callable[[mx.array], mx.array], dtype: mx.Dtype, steps: int) -> None:
    """The same numbers in another layout give the same result, to the bit."""
    arguments = small(op, dtype, steps).arguments
    want = backend.run(op, **arguments)
    for got, expected in zip(backend.run(op, **map_arrays(layout, arguments)), want, strict=True):
        assert mx.array_equal(got, expected, equal_nan=True)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("op", OPS)
def test_layout_of_one_argument(backend: Backend, op: str, layout: Callable[[mx.array], mx.array]) -> None:
    """Nothing assumes that one argument lies as another does."""
    arguments = small(op).arguments
    want = backend.run(op, **arguments)
    for name in arguments:
        changed = {**arguments, name: map_arrays(layout, arguments[name])}
        for got, expected in zip(backend.run(op, **changed), want, strict=True):
            assert mx.array_equal(got, expected, equal_nan=True), f"{name} {layout.__name__}"


@pytest.mark.parametrize("op", ["attention", "gated_delta", "gated_delta_block"])
def test_broadcast_batch(backend: Backend, op: str) -> None:
    """A batch of equal rows with stride 0 is that row, three times."""
    arguments = dict(small(op).arguments)
    for name in BATCHED[op]:
        row = arguments[name][:1]
        arguments[name] = mx.broadcast_to(row, (3, *row.shape[1:]))
    Case(op, **arguments).check(backend)


def test_broadcast_tokens(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    x = mx.broadcast_to(normal(rng, 1, 64), (9, 64))
    Case("qlinear", x=x, w=quantized(rng, 24, 64)).check(backend)
    Case("rms_norm", x=x, weight=mx.broadcast_to(mx.array(2.0), (64,)), eps=1e-6).check(backend)
    Case("moe_router", logits=mx.broadcast_to(x[0, :1], (9, 64)), k=3).check(backend)
    Case("moe_experts", x=x, **routed(rng, (9,), 4, 2), **experts(rng, 4, 64, 32, group=32)).check(backend)


def test_broadcast_weights(backend: Backend) -> None:
    """One expert's weights shown as four."""
    rng = np.random.default_rng(1)
    one = experts(rng, 1, 64, 32, group=32)
    four = map_arrays(lambda part: mx.broadcast_to(part, (4, *part.shape[1:])), one)
    Case("moe_experts", x=normal(rng, 9, 64), **routed(rng, (9,), 4, 2), **four).check(backend)


def test_slices_of_one_buffer(backend: Backend) -> None:
    """qkv, z, a and b as the columns of one fused projection, as qwen3_next has them."""
    good = small("gated_delta_block").arguments
    names = ("qkv", "z", "a", "b")
    fused = mx.contiguous(mx.concatenate([good[name].flatten(2) for name in names], axis=-1))
    edges = np.cumsum([good[name].flatten(2).shape[-1] for name in names])[:-1].tolist()
    parts = mx.split(fused, edges, axis=-1)
    shared = {name: part.reshape(good[name].shape) for name, part in zip(names, parts, strict=True)}
    Case("gated_delta_block", **{**good, **shared}).check(backend)
