"""gated_delta against its oracle, which walks token by token."""

from __future__ import annotations

from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltamoe import ops
from tests.arrays import BF16, F16, F32, FLOATS, normal, uniform
from tests.backends import BACKENDS, Backend
from tests.ops.case import Case
from tests.tolerance import GRADIENT, LONG_STATE_L2

Shape = tuple[int, int, int, int, int, int]
"""B, T, Hk, Hv, Dk, Dv"""


def unit(x: np.ndarray) -> np.ndarray:
    """x at length 1."""
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True) + 1e-12)


@cache
def case(
    shape: Shape,
    dtype: mx.Dtype = F32,
    gates: mx.Dtype = F32,
    per_channel: bool = False,
    state: bool = True,
    parallel: bool = False,
    decay: tuple[float, float] = (-3.0, 3.0),
    allow_neg_eigval: bool = False,
    beta: float = 2.0,
    snapshots: int = 0,
) -> Case:
    """A random case.

    Args:
        parallel: keys that all but coincide.
        decay: range of ``a``; with ``A_log`` near 0, -9.2 is a gate of 1 - 1e-4 and 13.8 one of 1e-6.
        beta: standard deviation of ``b``.
    """
    batch, steps, k_heads, v_heads, d_k, d_v = shape
    rng = np.random.default_rng(list(shape))
    keys = rng.standard_normal((batch, steps, k_heads, d_k))
    if parallel:
        keys = rng.standard_normal((batch, 1, k_heads, d_k)) + 0.01 * keys
    queries = unit(rng.standard_normal((batch, steps, k_heads, d_k))) * d_k**-0.5

    def array(x: np.ndarray) -> mx.array:
        return mx.array(x.astype(np.float32)).astype(dtype)

    a_shape = (batch, steps, v_heads, d_k) if per_channel else (batch, steps, v_heads)
    bias_shape = (v_heads, d_k) if per_channel else (v_heads,)
    return Case(
        "gated_delta",
        q=array(queries),
        k=array(unit(keys)),
        v=normal(rng, batch, steps, v_heads, d_v, dtype=dtype),
        a=uniform(rng, *decay, *a_shape, dtype=gates),
        b=normal(rng, batch, steps, v_heads, dtype=gates, scale=beta),
        A_log=uniform(rng, -0.01, 0.01, v_heads, dtype=gates),
        dt_bias=uniform(rng, -0.1, 0.1, *bias_shape, dtype=gates),
        state=normal(rng, batch, v_heads, d_v, d_k) if state else None,
        allow_neg_eigval=allow_neg_eigval,
        snapshots=snapshots,
    )


def constant_gates(shape: Shape, a: float, **options: Any) -> Case:
    """The same gate at each token, and keys close to one direction."""
    good = case(shape, **options).arguments
    rng = np.random.default_rng(0)
    keys = unit(rng.standard_normal(shape[-2]) + 0.1 * rng.standard_normal(good["k"].shape))
    constant = {"k": mx.array(keys.astype(np.float32)), "a": mx.full(good["a"].shape, a)}
    constant |= {name: mx.zeros(good[name].shape) for name in ("A_log", "dt_bias")}
    return Case("gated_delta", **good | constant)


PER_TOKEN = ("q", "k", "v", "a", "b")


def tokens(arguments: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    """The call with these tokens alone."""
    return {name: value[:, start:stop] if name in PER_TOKEN else value for name, value in arguments.items()}


STEPS = [1, 2, 7, 15, 16, 17, 31, 33, 64, 65, 257]
WIDTHS = [(32, 32), (64, 64), (96, 32), (32, 96), (128, 128), (64, 256), (256, 64), (256, 256)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("steps", STEPS)
def test_lengths_of_time(backend: Backend, steps: int, dtype: mx.Dtype) -> None:
    case((2, steps, 1, 2, 64, 64), dtype, dtype).check(backend)


@pytest.mark.parametrize("per_channel", [False, True], ids=["scalar", "per_channel"])
@pytest.mark.parametrize("steps", STEPS)
def test_no_state(backend: Backend, steps: int, per_channel: bool) -> None:
    case((1, steps, 2, 2, 32, 64), per_channel=per_channel, state=False).check(backend)


@pytest.mark.parametrize("per_channel", [False, True], ids=["scalar", "per_channel"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("steps", [1, 5, 40])
@pytest.mark.parametrize("width", WIDTHS)
def test_widths(backend: Backend, width: tuple[int, int], steps: int, dtype: mx.Dtype, per_channel: bool) -> None:
    case((1, steps, 1, 2, *width), dtype, per_channel=per_channel).check(backend)


@pytest.mark.parametrize("heads", [(1, 1), (1, 2), (1, 4), (2, 2), (2, 8), (3, 3), (16, 32)])
@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 18])
def test_heads_and_batches(backend: Backend, steps: int, batch: int, heads: tuple[int, int]) -> None:
    case((batch, steps, *heads, 32, 32)).check(backend)


@pytest.mark.parametrize("gates", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("steps", [1, 33])
def test_dtypes(backend: Backend, steps: int, dtype: mx.Dtype, gates: mx.Dtype) -> None:
    case((2, steps, 2, 4, 64, 32), dtype, gates).check(backend)


def test_dtypes_of_gates_differ(backend: Backend) -> None:
    """As in mlx-lm: a and b in bfloat16, A_log in float32, dt_bias in float16."""
    good = case((2, 20, 2, 4, 64, 32), BF16, BF16).arguments
    mixed = {"A_log": good["A_log"].astype(F32), "dt_bias": good["dt_bias"].astype(F16)}
    Case("gated_delta", **{**good, **mixed}).check(backend)


@pytest.mark.parametrize("per_channel", [False, True], ids=["scalar", "per_channel"])
@pytest.mark.parametrize("steps", [1, 33])
def test_a_log_with_an_axis_more(backend: Backend, steps: int, per_channel: bool) -> None:
    good = case((2, steps, 2, 4, 64, 32), per_channel=per_channel).arguments
    Case("gated_delta", **{**good, "A_log": good["A_log"][:, None]}).check(backend)


@given(data=st.data())
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_any_shape(backend: Backend, data: st.DataObject) -> None:
    k_heads = data.draw(st.integers(1, 3), "Hk")
    widths = st.sampled_from([32, 64, 96, 128])
    batch, steps = data.draw(st.integers(0, 3), "B"), data.draw(st.integers(0, 50), "T")
    v_heads = k_heads * data.draw(st.integers(1, 3), "Hv / Hk")
    shape = (batch, steps, k_heads, v_heads, data.draw(widths, "Dk"), data.draw(widths, "Dv"))
    flags = {name: data.draw(st.booleans(), name) for name in ("per_channel", "state", "allow_neg_eigval")}
    good = case(shape, data.draw(st.sampled_from(FLOATS), "dtype"), **flags).arguments
    extra = {}
    rng = np.random.default_rng(0)
    if data.draw(st.booleans(), "mask"):
        extra["mask"] = mx.array(rng.random((batch, steps)) < 0.7)
    if data.draw(st.booleans(), "lengths"):
        extra["lengths"] = mx.array(rng.integers(0, steps + 1, batch).astype(np.int32))
    if steps and "lengths" not in extra:
        extra["snapshots"] = data.draw(st.integers(0, steps), "snapshots")
    Case("gated_delta", **{**good, **extra}).check(backend)


MASKS = {
    "left": lambda b, t, rng: np.arange(t) >= np.arange(1, b + 1)[:, None] * t // 4,
    "right": lambda b, t, rng: np.arange(t) < np.arange(1, b + 1)[:, None] * t // 4,
    "arbitrary": lambda b, t, rng: rng.random((b, t)) < 0.5,
    "none kept": lambda b, t, rng: np.zeros((b, t), bool),
    "one row none": lambda b, t, rng: np.arange(b)[:, None] + np.zeros(t) > 0,
    "all kept": lambda b, t, rng: np.ones((b, t), bool),
}


@pytest.mark.parametrize("per_channel", [False, True], ids=["scalar", "per_channel"])
@pytest.mark.parametrize("state", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize("steps", [1, 4, 16, 50])
@pytest.mark.parametrize("mask", MASKS)
def test_masks(backend: Backend, mask: str, steps: int, state: bool, per_channel: bool) -> None:
    """A masked token yields 0 and leaves the state alone, to the bit; what it holds does not matter."""
    good = case((3, steps, 1, 2, 64, 32), per_channel=per_channel, state=state).arguments
    keep = MASKS[mask](3, steps, np.random.default_rng(1))
    y, new_state = Case("gated_delta", **good, mask=mx.array(keep)).check(backend)
    assert (np.array(y)[~keep] == 0).all()
    untouched = ~keep.any(axis=1)
    before = np.array(good["state"]) if state else np.zeros(new_state.shape)
    assert np.array_equal(np.array(new_state)[untouched], before[untouched])


def test_masked_tokens_may_hold_nan(backend: Backend) -> None:
    """Padding is never read into a result."""
    good = case((2, 20, 1, 2, 64, 32)).arguments
    keep = np.random.default_rng(2).random((2, 20)) < 0.6
    clean = backend.run("gated_delta", **good, mask=mx.array(keep))
    spoilt = dict(good)
    for name in ("q", "k", "v", "a", "b"):
        hole = mx.array(keep).reshape(2, 20, *[1] * (good[name].ndim - 2))
        spoilt[name] = mx.where(hole, good[name], float("nan"))
    for got, want in zip(backend.run("gated_delta", **spoilt, mask=mx.array(keep)), clean, strict=True):
        assert mx.array_equal(got, want)


@pytest.mark.parametrize("dtype", [mx.int32, mx.int64, mx.uint8])
@pytest.mark.parametrize("steps", [1, 6, 40])
def test_lengths(backend: Backend, steps: int, dtype: mx.Dtype) -> None:
    lengths = mx.array([0, steps // 2, steps + 3], dtype=dtype)
    Case("gated_delta", **case((3, steps, 1, 2, 64, 32)).arguments, lengths=lengths).check(backend)


def test_mask_and_lengths(backend: Backend) -> None:
    keep = mx.array(np.random.default_rng(3).random((3, 30)) < 0.5)
    extra = {"mask": keep, "lengths": mx.array([0, 11, 30])}
    Case("gated_delta", **case((3, 30, 1, 2, 64, 32)).arguments, **extra).check(backend)


@pytest.mark.parametrize("per_channel", [False, True], ids=["scalar", "per_channel"])
@pytest.mark.parametrize(
    "decay", [(-9.2, -9.0), (13.0, 13.8), (-9.2, 13.8), (60.0, 90.0), (-90.0, -60.0)], ids=lambda d: f"{d[0]}to{d[1]}"
)
@pytest.mark.parametrize("steps", [1, 16, 65, 257])
def test_extreme_gates(backend: Backend, steps: int, decay: tuple[float, float], per_channel: bool) -> None:
    """From 1 - 1e-4, and 1 itself, to 1e-6, and 0 itself: a chunk's product of gates leaves float32's range."""
    case((1, steps, 1, 2, 64, 64), per_channel=per_channel, decay=decay).check(backend)


@pytest.mark.parametrize("per_channel", [False, True], ids=["scalar", "per_channel"])
@pytest.mark.parametrize(("steps", "a"), [(1, 88.0), (7, 12.8), (16, 5.6), (20, 4.5)])
def test_what_is_forgotten_leaves_no_denormals(backend: Backend, steps: int, a: float, per_channel: bool) -> None:
    """All gates together are 1e-39, and nothing new comes: some processors are slow at such."""
    arguments = dict(case((1, steps, 1, 2, 64, 64), per_channel=per_channel, decay=(a, a)).arguments)
    arguments["v"] = mx.zeros_like(arguments["v"])
    _, state = Case("gated_delta", **arguments).check(backend)
    left = np.abs(np.array(state))
    assert not np.any((left > 0) & (left < np.finfo(np.float32).tiny))


@pytest.mark.parametrize("allow_neg_eigval", [False, True], ids=["beta1", "beta2"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["scalar", "per_channel"])
@pytest.mark.parametrize("decay", [(-9.2, -7.0), (-3.0, 3.0)], ids=["long", "short"])
@pytest.mark.parametrize("steps", [2, 16, 65, 257])
def test_parallel_keys(
    backend: Backend, steps: int, decay: tuple[float, float], per_channel: bool, allow_neg_eigval: bool
) -> None:
    """A chunk's triangular system at its worst: coinciding keys and beta near its limit."""
    case(
        (1, steps, 1, 2, 64, 64),
        per_channel=per_channel,
        decay=decay,
        parallel=True,
        allow_neg_eigval=allow_neg_eigval,
        beta=6.0,
    ).check(backend)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("steps", [1, 20])
def test_negative_eigenvalues(backend: Backend, steps: int, dtype: mx.Dtype) -> None:
    case((2, steps, 2, 4, 32, 64), dtype, allow_neg_eigval=True, beta=3.0).check(backend)


@pytest.mark.parametrize("per_channel", [False, True], ids=["scalar", "per_channel"])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_state_after_4096_tokens(backend: Backend, dtype: mx.Dtype, per_channel: bool) -> None:
    """Gates of a model: most remember a few tokens, some thousands."""
    shape = (1, 4096, 1, 2, 64, 64)
    case(shape, dtype, per_channel=per_channel, decay=(-9.2, 2.0)).check(backend, l2=LONG_STATE_L2)
    case(shape, dtype, per_channel=per_channel, decay=(-9.2, -6.0)).check(backend, l2=LONG_STATE_L2)


@pytest.mark.parametrize(
    "form", [{}, {"snapshots": 4090}, {"per_channel": True}], ids=["chunks", "rows", "per_channel"]
)
@pytest.mark.parametrize("a", [-9.181, -7.066])
def test_constant_gate_after_4096_tokens(backend: Backend, a: float, form: dict[str, Any]) -> None:
    """A state that remembers thousands of tokens, and a gate near 1 half way between two numbers of float32."""
    constant_gates((1, 4096, 1, 1, 64, 32), a, **form).check(backend, l2=LONG_STATE_L2)


@pytest.mark.parametrize("pieces", [(1, 1, 1), (16, 1, 30), (3, 44), (33, 0, 14)])
def test_in_pieces(backend: Backend, pieces: tuple[int, ...]) -> None:
    """The state carries everything from one call to the next."""
    whole = case((2, sum(pieces), 1, 2, 64, 32))
    state, parts, start = whole.arguments["state"], [], 0
    for steps in pieces:
        y, state = backend.run("gated_delta", **{**tokens(whole.arguments, start, start + steps), "state": state})
        parts.append(y)
        start += steps
    whole.compare((mx.concatenate(parts, axis=1), state))


@pytest.mark.parametrize("state", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["scalar", "per_channel"])
@pytest.mark.parametrize(
    ("steps", "snapshots"), [(1, 1), (2, 1), (2, 2), (8, 8), (12, 1), (17, 4), (40, 40), (256, 3), (300, 3), (300, 60)]
)
def test_snapshots(backend: Backend, steps: int, snapshots: int, per_channel: bool, state: bool) -> None:
    """The states after each of the last tokens, also of those before a block of tokens."""
    case((2, steps, 1, 2, 64, 32), per_channel=per_channel, state=state, snapshots=snapshots).check(backend)


@pytest.mark.parametrize("steps", [4, 50])
@pytest.mark.parametrize("mask", MASKS)
def test_snapshots_of_masked_tokens(backend: Backend, mask: str, steps: int) -> None:
    """A masked token's is that of the token before, to the bit."""
    keep = MASKS[mask](3, steps, np.random.default_rng(1))
    good = case((3, steps, 1, 2, 64, 32), snapshots=steps - 1).arguments
    _, states = Case("gated_delta", **good, mask=mx.array(keep)).check(backend)
    before, after = np.array(states)[:, :-1], np.array(states)[:, 1:]
    assert np.array_equal(after[~keep[:, 2:]], before[~keep[:, 2:]])


@pytest.mark.parametrize("steps", [5, 30])
def test_back_to_a_snapshot(backend: Backend, steps: int) -> None:
    """From a snapshot on, it is as if the tokens after it had never been."""
    first = case((2, steps, 1, 2, 64, 32)).arguments
    other = {name: case((2, 20, 1, 2, 64, 32)).arguments[name] for name in PER_TOKEN}
    y, states = backend.run("gated_delta", **{**first, "snapshots": 4})
    for i, seen in enumerate(range(steps - 3, steps + 1)):
        whole = {name: mx.concatenate([first[name][:, :seen], other[name]], axis=1) for name in PER_TOKEN}
        next_y, state = backend.run("gated_delta", **{**first, **other, "state": states[:, i]})
        both = mx.concatenate([y[:, :seen], next_y], axis=1)
        Case("gated_delta", **{**first, **whole}).compare((both, state))


def test_state_is_not_overwritten(backend: Backend) -> None:
    """Unless nobody else holds it."""
    good = case((1, 3, 1, 2, 64, 32)).arguments
    before = np.array(good["state"])
    backend.run("gated_delta", **good)
    assert np.array_equal(np.array(good["state"]), before)


@pytest.mark.parametrize("snapshots", [1, 3])
def test_gradient_of_snapshots(snapshots: int) -> None:
    """That of the sum of what calls without the later tokens give."""
    arguments = case((2, 5, 1, 2, 32, 32)).arguments
    names = ("k", "v", "b", "state")
    weights = normal(np.random.default_rng(4), 2, snapshots, 2, 32, 32)

    def one_call(*values: mx.array) -> mx.array:
        given = {**arguments, **dict(zip(names, values, strict=True))}
        return (ops.gated_delta(**{**given, "snapshots": snapshots})[1] * weights).sum()

    def many_calls(*values: mx.array) -> mx.array:
        given = {**arguments, **dict(zip(names, values, strict=True))}
        ends = range(5 - snapshots + 1, 5 + 1)
        states = [ops.gated_delta(**tokens(given, 0, end))[1] for end in ends]
        return (mx.stack(states, axis=1) * weights).sum()

    values = [arguments[name] for name in names]
    got, want = (mx.grad(run, argnums=list(range(4)))(*values) for run in (one_call, many_calls))
    for name, one, other in zip(names, got, want, strict=True):
        assert mx.allclose(one, other, rtol=GRADIENT, atol=GRADIENT), name


def test_vmap_of_snapshots() -> None:
    """Over the batch, one call each, and the states of all of them."""
    arguments = case((3, 5, 1, 2, 32, 32), snapshots=2).arguments
    names = (*PER_TOKEN, "state")

    def one(*values: mx.array) -> tuple[mx.array, mx.array]:
        return ops.gated_delta(**{**arguments, **dict(zip(names, values, strict=True))})

    results = mx.vmap(one)(*(arguments[name][:, None] for name in names))
    Case("gated_delta", **arguments).compare(tuple(part.squeeze(1) for part in results))


def test_one_snapshot_of_a_state_that_nobody_else_holds() -> None:
    """As many numbers, but not the memory: it has an axis more."""
    arguments = case((1, 3, 1, 2, 32, 32), snapshots=1).arguments
    _, state = ops.gated_delta(**{**arguments, "state": mx.array(np.array(arguments["state"]))})
    assert mx.array_equal(state[:, 0] + 0, ops.gated_delta(**{**arguments, "snapshots": 0})[1])


def test_a_shapeless_function_of_fewer_tokens_than_snapshots() -> None:
    run = mx.compile(ops.gated_delta, shapeless=True)
    arguments = case((1, 3, 1, 2, 32, 32), snapshots=2).arguments
    mx.eval(run(**arguments))
    with pytest.raises(ValueError, match="snapshots is 2 and there are 1 tokens"):
        mx.eval(run(**tokens(arguments, 0, 1)))


def bad_calls() -> dict[str, dict[str, Any]]:
    good = case((2, 3, 2, 4, 64, 32)).arguments
    q, k, v, a, b, state = (good[name] for name in ("q", "k", "v", "a", "b", "state"))
    wide = mx.zeros((2, 3, 2, 288))
    return {
        "q of three axes": {"q": q[0]},
        "k of another shape": {"k": k[:, :2]},
        "v of three axes": {"v": v[0]},
        "v of other steps": {"v": v[:, :2]},
        "q of integers": {"q": q.astype(mx.int32), "k": k.astype(mx.int32), "v": v.astype(mx.int32)},
        "v of another dtype": {"v": v.astype(BF16)},
        "heads that do not divide": {
            "v": v[:, :, :3],
            "a": a[..., :3],
            "b": b[..., :3],
            "A_log": good["A_log"][:3],
            "dt_bias": good["dt_bias"][:3],
            "state": state[:, :3],
        },
        "no key heads": {"q": q[:, :, :0], "k": k[:, :, :0]},
        "Dk of 48": {"q": q[..., :48], "k": k[..., :48], "state": state[..., :48]},
        "Dv of 16": {"v": v[..., :16], "state": state[:, :, :16]},
        "Dk of 288": {"q": wide, "k": wide, "state": None},
        "a of other heads": {"a": a[..., :3]},
        "a per value channel": {"a": mx.zeros((2, 3, 4, 32)), "dt_bias": mx.zeros((4, 32))},
        "a of integers": {"a": a.astype(mx.int32)},
        "b of other steps": {"b": b[:, :2]},
        "b per channel": {"b": mx.zeros((2, 3, 4, 64))},
        "A_log of other heads": {"A_log": mx.zeros(3)},
        "dt_bias of other heads": {"dt_bias": mx.zeros(3)},
        "state in bfloat16": {"state": state.astype(BF16)},
        "state transposed": {"state": state.swapaxes(-1, -2)},
        "state of another batch": {"state": state[:1]},
        "mask of numbers": {"mask": mx.ones((2, 3))},
        "mask of other steps": {"mask": mx.ones((2, 4), mx.bool_)},
        "mask of attention": {"mask": mx.ones((3, 3), mx.bool_)},
        "lengths of reals": {"lengths": mx.ones(2)},
        "lengths of another batch": {"lengths": mx.ones(3, mx.int32)},
        "fewer snapshots than none": {"snapshots": -1},
        "more snapshots than tokens": {"snapshots": 4},
        "snapshots and lengths": {"snapshots": 1, "lengths": mx.ones(2, mx.int32)},
    }


@pytest.mark.parametrize("bad", bad_calls())
def test_bad_input(bad: str) -> None:
    with pytest.raises(ValueError, match="gated_delta"):
        ops.gated_delta(**{**case((2, 3, 2, 4, 64, 32)).arguments, **bad_calls()[bad]})


def address(x: mx.array) -> int:
    """Where the numbers of an evaluated array lie."""
    return int(np.array(x, copy=False).__array_interface__["data"][0])


def test_a_state_that_nobody_else_holds_is_updated_in_place() -> None:
    arguments = case((1, 1, 1, 2, 32, 32), F32).arguments
    state = mx.zeros((1, 2, 32, 32))
    mx.eval(state)
    before = address(state)
    for _ in range(3):
        y, state = ops.gated_delta(**{**arguments, "state": state})
        mx.eval(y, state)
        assert address(state) == before


def test_a_state_that_is_held_stays_as_it_was() -> None:
    arguments = case((1, 1, 1, 2, 32, 32), F32).arguments
    held = mx.random.normal((1, 2, 32, 32))
    want = np.array(held)
    y, state = ops.gated_delta(**{**arguments, "state": held})
    mx.eval(y, state)
    assert np.array_equal(np.array(held), want)
    assert not np.array_equal(np.array(state), want)
