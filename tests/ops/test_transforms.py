"""mx.grad, mx.jvp, mx.vmap and mx.compile of every op.

Derivatives and vmap run an op's plain-MLX twin, so these tests are the twin's too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from deltamoe import ops
from tests import oracle
from tests.arrays import F32, FLOATS, map_arrays, numpy_of, to_oracle
from tests.ops.case import RESULTS, Case
from tests.ops.small import BATCHED, OPS, small
from tests.tolerance import GRADIENT

DIFFERENTIABLE = {
    "attention": ("q", "k", "v", "gate"),
    "gated_delta": ("q", "k", "v", "a", "b", "A_log", "dt_bias", "state"),
    "gated_delta_block": (
        *("qkv", "z", "a", "b", "conv_weight"),
        *("A_log", "dt_bias", "norm_weight", "conv_state", "state"),
    ),
    "moe_experts": ("x", "scores"),
    "moe_router": ("logits",),
    "qlinear": ("x",),
    "rms_norm": ("x", "weight"),
}
STEP = 1e-4


def function(op: str, arguments: dict[str, Any], names: tuple[str, ...]) -> Callable[..., tuple[mx.array, ...]]:
    """The op's real results, as a function of some arguments."""

    def run(*values: mx.array) -> tuple[mx.array, ...]:
        return real(as_tuple(getattr(ops, op)(**{**arguments, **dict(zip(names, values, strict=True))})))

    return run


def as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def real(results: tuple[Any, ...]) -> tuple[Any, ...]:
    """Without the indices of a router."""
    integers = (mx.uint32, np.dtype(np.int64))
    return tuple(part for part in results if part.dtype not in integers)


def slopes(op: str, arguments: dict[str, Any], directions: dict[str, mx.array]) -> tuple[np.ndarray, ...]:
    """The oracle's derivatives along ``directions``, by central differences."""
    at = to_oracle(arguments)

    def moved(by: float) -> tuple[np.ndarray, ...]:
        there = {name: at[name] + by * numpy_of(direction) for name, direction in directions.items()}
        return real(getattr(oracle, op)(**{**at, **there}))

    return tuple((high - low) / (2 * STEP) for high, low in zip(moved(STEP), moved(-STEP), strict=True))


def total(parts: Iterable[mx.array]) -> mx.array:
    return mx.stack(list(parts)).sum()


def relative(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.mark.parametrize(("op", "name"), [(op, name) for op in OPS for name in DIFFERENTIABLE[op]])
def test_gradient(op: str, name: str) -> None:
    """The gradient of a weighted sum of all results, along random directions, is the oracle's."""
    arguments = small(op).arguments
    rng = np.random.default_rng(1)
    run = function(op, arguments, (name,))
    weights = [mx.array(rng.standard_normal(part.shape).astype(np.float32)) for part in run(arguments[name])]

    def loss(value: mx.array) -> mx.array:
        return total((part * weight).sum() for part, weight in zip(run(value), weights, strict=True))

    gradient = mx.grad(loss)(arguments[name])
    assert gradient.shape == arguments[name].shape
    got, want = [], []
    for _ in range(3):
        direction = mx.array(rng.standard_normal(gradient.shape).astype(np.float32))
        got.append((numpy_of(gradient) * numpy_of(direction)).sum())
        parts = slopes(op, arguments, {name: direction})
        want.append(sum((part * numpy_of(weight)).sum() for part, weight in zip(parts, weights, strict=True)))
    assert relative(np.array(got), np.array(want)) < GRADIENT


@pytest.mark.parametrize("op", OPS)
def test_jvp(op: str) -> None:
    """The derivative along one direction of all arguments."""
    arguments = small(op).arguments
    rng = np.random.default_rng(2)
    names = DIFFERENTIABLE[op]
    tangents = [mx.array(rng.standard_normal(arguments[name].shape).astype(np.float32)) for name in names]
    _, got = mx.jvp(function(op, arguments, names), [arguments[name] for name in names], tangents)
    want = slopes(op, arguments, dict(zip(names, tangents, strict=True)))
    for one, other in zip(got, want, strict=True):
        assert relative(numpy_of(one), other) < GRADIENT


@pytest.mark.parametrize("op", OPS)
def test_gradient_in_half_precision(op: str) -> None:
    """Has the dtype of its argument and is near that of float32."""
    name = DIFFERENTIABLE[op][0]
    half = small(op, mx.bfloat16).arguments
    full = {
        key: value.astype(F32) if isinstance(value, mx.array) and value.dtype == mx.bfloat16 else value
        for key, value in half.items()
    }

    def gradient(arguments: dict[str, Any]) -> mx.array:
        run = function(op, arguments, (name,))
        return mx.grad(lambda value: total((part.astype(F32) ** 2).sum() for part in run(value)))(arguments[name])

    assert gradient(half).dtype == mx.bfloat16
    assert relative(numpy_of(gradient(half)), numpy_of(gradient(full))) < 0.02


def stacked(op: str, dtype: mx.Dtype) -> tuple[dict[str, Any], list[Case]]:
    """Two cases of ``op`` that share their parameters, one by one and stacked."""
    first = small(op, dtype).arguments
    second = {**first, **{name: mx.contiguous(first[name][::-1]) for name in BATCHED[op]}}
    pile = {name: mx.stack([first[name], second[name]]) for name in BATCHED[op]}
    return pile, [Case(op, **first), Case(op, **second)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", OPS)
def test_vmap(op: str, dtype: mx.Dtype) -> None:
    """Over the arguments that carry a batch; each part within tolerance."""
    pile, cases = stacked(op, dtype)
    names, shared = tuple(pile), cases[0].arguments
    mapped = mx.vmap(lambda *values: getattr(ops, op)(**{**shared, **dict(zip(names, values, strict=True))}))
    results = as_tuple(mapped(*pile.values()))
    for i, case in enumerate(cases):
        case.compare(tuple(part[i] for part in results))


@pytest.mark.parametrize(("op", "name"), [(op, name) for op in OPS for name in BATCHED[op]])
def test_vmap_over_one_argument(op: str, name: str) -> None:
    """Mapped along its last axis, and the result's batch put last too."""
    pile, cases = stacked(op, F32)
    arguments = cases[0].arguments
    out = tuple(-1 for _ in RESULTS[op])
    mapped = mx.vmap(
        lambda value: getattr(ops, op)(**{**arguments, name: value}),
        in_axes=-1,
        out_axes=out if len(out) > 1 else -1,
    )
    results = as_tuple(mapped(mx.moveaxis(pile[name], 0, -1)))
    for i in range(2):
        Case(op, **{**arguments, name: pile[name][i]}).compare(tuple(part[..., i] for part in results))


def test_vmap_over_weights() -> None:
    """A batch of matrices for one x."""
    case = small("qlinear")
    x, w = case.arguments["x"], case.arguments["w"]
    pile = map_arrays(lambda part: mx.stack([part, part[::-1]]), w)
    y = mx.vmap(lambda *parts: ops.qlinear(x, ops.Quantized(*parts)))(*pile)
    case.compare((y[0],))
    case.compare((y[1][:, ::-1],))


@pytest.mark.parametrize("shapeless", [False, True], ids=["shapes", "shapeless"])
@pytest.mark.parametrize("op", OPS)
def test_compile(op: str, shapeless: bool) -> None:
    """Equal to eager, to the bit, also when the number of tokens changes."""
    names = tuple(name for name, value in small(op).arguments.items() if isinstance(value, mx.array))
    constants = {name: value for name, value in small(op).arguments.items() if name not in names}

    @lambda run: mx.compile(run, shapeless=shapeless)
    def compiled(*values: mx.array) -> Any:
        return getattr(ops, op)(**constants, **dict(zip(names, values, strict=True)))

    for steps in (6, 1, 20, 6):
        arguments = {**small(op, F32, steps).arguments, **constants}
        eager = as_tuple(getattr(ops, op)(**arguments))
        values = [arguments[name] for name in names]
        for one, other in zip(as_tuple(compiled(*values)), eager, strict=True):
            assert mx.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("op", OPS)
def test_equal_calls_are_one(op: str) -> None:
    """mx.compile merges two equal calls and keeps apart those that differ in a parameter."""
    arguments = small(op).arguments
    names = tuple(name for name, value in arguments.items() if isinstance(value, mx.array))
    parameters: dict[str, dict[str, Any]] = {
        "attention": {"causal": False},
        "gated_delta": {"allow_neg_eigval": True},
        "gated_delta_block": {"norm_eps": 0.5},
        "moe_router": {"normalize": False},
        "rms_norm": {"eps": 0.5},
    }
    other = {**arguments, **parameters.get(op, {})}

    def run(*values: mx.array) -> tuple[Any, ...]:
        given = dict(zip(names, values, strict=True))
        calls = (arguments, arguments, other)
        return tuple(part for call in calls for part in as_tuple(getattr(ops, op)(**{**call, **given})))

    values = [arguments[name] for name in names]
    for one, two in zip(mx.compile(run)(*values), run(*values), strict=True):
        assert mx.array_equal(one, two, equal_nan=True)
