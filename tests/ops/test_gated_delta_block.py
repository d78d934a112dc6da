"""gated_delta_block against its oracle."""

from __future__ import annotations

from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltamoe import ops
from tests.arrays import BF16, F32, FLOATS, normal, uniform
from tests.backends import BACKENDS, Backend
from tests.ops.case import Case
from tests.ops.test_gated_delta import MASKS, Shape
from tests.tolerance import GRADIENT


@cache
def case(
    shape: Shape,
    dtype: mx.Dtype = F32,
    taps: int = 4,
    states: bool = True,
    weights: mx.Dtype = F32,
    eps: float = 1e-6,
    snapshots: int = 0,
) -> Case:
    """A random case; ``weights`` is the dtype of all parameters but conv_weight, which has qkv's."""
    batch, steps, k_heads, v_heads, d_k, d_v = shape
    rng = np.random.default_rng([*shape, taps])
    channels = 2 * k_heads * d_k + v_heads * d_v
    return Case(
        "gated_delta_block",
        qkv=normal(rng, batch, steps, channels, dtype=dtype),
        z=normal(rng, batch, steps, v_heads, d_v, dtype=dtype),
        a=normal(rng, batch, steps, v_heads, dtype=dtype),
        b=normal(rng, batch, steps, v_heads, dtype=dtype),
        conv_weight=normal(rng, channels, taps, 1, dtype=dtype, scale=taps**-0.5),
        A_log=uniform(rng, -4.0, 1.0, v_heads, dtype=weights),
        dt_bias=normal(rng, v_heads, dtype=weights),
        norm_weight=normal(rng, d_v, dtype=weights, mean=1.0, scale=0.1),
        conv_state=normal(rng, batch, taps - 1, channels, dtype=dtype) if states else None,
        state=normal(rng, batch, v_heads, d_v, d_k) if states else None,
        num_k_heads=k_heads,
        norm_eps=eps,
        snapshots=snapshots,
    )


PER_TOKEN = ("qkv", "z", "a", "b")


@pytest.mark.parametrize("states", [False, True], ids=["first", "states"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 16, 33, 130])
def test_lengths_of_time(backend: Backend, steps: int, dtype: mx.Dtype, states: bool) -> None:
    case((2, steps, 1, 2, 64, 64), dtype, states=states).check(backend)


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize(
    "shape", [(1, 1, 32, 32), (1, 4, 32, 64), (2, 4, 96, 32), (2, 2, 128, 128), (1, 2, 64, 256), (4, 8, 32, 32)]
)
def test_shapes(backend: Backend, shape: tuple[int, int, int, int], steps: int, dtype: mx.Dtype) -> None:
    case((3, steps, *shape), dtype).check(backend)


@pytest.mark.parametrize("steps", [1, 3, 9])
@pytest.mark.parametrize("taps", [2, 3, 4, 5, 8])
def test_taps(backend: Backend, taps: int, steps: int) -> None:
    case((2, steps, 1, 2, 32, 32), taps=taps).check(backend)
    case((2, steps, 1, 2, 32, 32), taps=taps, states=False).check(backend)


@pytest.mark.parametrize("weights", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("steps", [1, 18])
def test_dtypes(backend: Backend, steps: int, dtype: mx.Dtype, weights: mx.Dtype) -> None:
    case((2, steps, 1, 2, 64, 32), dtype, weights=weights).check(backend)


@pytest.mark.parametrize("weights", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("steps", [1, 18])
def test_dtype_of_conv_weight(backend: Backend, steps: int, dtype: mx.Dtype, weights: mx.Dtype) -> None:
    good = case((2, steps, 1, 2, 64, 32), dtype).arguments
    Case("gated_delta_block", **{**good, "conv_weight": good["conv_weight"].astype(weights)}).check(backend)


@pytest.mark.parametrize("eps", [1e-12, 1e-6, 1e-2])
@pytest.mark.parametrize("steps", [1, 18])
def test_norm_eps(backend: Backend, steps: int, eps: float) -> None:
    case((2, steps, 1, 2, 64, 32), eps=eps).check(backend)


@given(data=st.data())
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_any_shape(backend: Backend, data: st.DataObject) -> None:
    batch, steps = data.draw(st.integers(1, 3), "B"), data.draw(st.integers(0, 40), "T")
    k_heads, widths = data.draw(st.integers(1, 2), "Hk"), st.sampled_from([32, 64])
    v_heads = k_heads * data.draw(st.integers(1, 3), "Hv / Hk")
    shape = (batch, steps, k_heads, v_heads, data.draw(widths, "Dk"), data.draw(widths, "Dv"))
    states, taps = data.draw(st.booleans(), "states"), data.draw(st.integers(2, 8), "K")
    good = case(shape, data.draw(st.sampled_from(FLOATS), "dtype"), taps, states).arguments
    extra = {}
    rng = np.random.default_rng(0)
    if data.draw(st.booleans(), "mask"):
        extra["mask"] = mx.array(rng.random((batch, steps)) < 0.7)
    if data.draw(st.booleans(), "lengths"):
        extra["lengths"] = mx.array(rng.integers(0, steps + 1, batch).astype(np.int32))
    if steps and "lengths" not in extra:
        extra["snapshots"] = data.draw(st.integers(0, steps), "snapshots")
    Case("gated_delta_block", **{**good, **extra}).check(backend)


@pytest.mark.parametrize("states", [False, True], ids=["first", "states"])
@pytest.mark.parametrize("steps", [1, 5, 40])
@pytest.mark.parametrize("mask", MASKS)
def test_masks(backend: Backend, mask: str, steps: int, states: bool) -> None:
    keep = MASKS[mask](3, steps, np.random.default_rng(1))
    good = case((3, steps, 1, 2, 64, 32), states=states).arguments
    y, _, _ = Case("gated_delta_block", **good, mask=mx.array(keep)).check(backend)
    assert (np.array(y)[~keep] == 0).all()


def test_masked_tokens_may_hold_nan(backend: Backend) -> None:
    good = case((2, 20, 1, 2, 64, 32)).arguments
    keep = np.random.default_rng(2).random((2, 20)) < 0.6
    clean = backend.run("gated_delta_block", **good, mask=mx.array(keep))
    spoilt = dict(good)
    for name in ("qkv", "z", "a", "b"):
        hole = mx.array(keep).reshape(2, 20, *[1] * (good[name].ndim - 2))
        spoilt[name] = mx.where(hole, good[name], float("nan"))
    for got, want in zip(backend.run("gated_delta_block", **spoilt, mask=mx.array(keep)), clean, strict=True):
        assert mx.array_equal(got, want)


@pytest.mark.parametrize("taps", [2, 4, 8])
@pytest.mark.parametrize("steps", [1, 2, 6, 40])
def test_lengths(backend: Backend, steps: int, taps: int) -> None:
    """The new conv_state ends at each row's length, be that 0, within the kernel's reach or beyond T."""
    lengths = mx.array([0, 1, steps // 2, steps, steps + 3])
    Case("gated_delta_block", **case((5, steps, 1, 1, 32, 32), taps=taps).arguments, lengths=lengths).check(backend)


def test_mask_and_lengths(backend: Backend) -> None:
    keep = mx.array(np.random.default_rng(3).random((3, 30)) < 0.5)
    extra = {"mask": keep, "lengths": mx.array([0, 11, 30])}
    Case("gated_delta_block", **case((3, 30, 1, 2, 64, 32)).arguments, **extra).check(backend)


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("taps", [2, 4, 8])
@pytest.mark.parametrize("pieces", [(1, 1, 1), (16, 1, 30), (3, 44), (2, 0, 5)])
def test_in_pieces(backend: Backend, pieces: tuple[int, ...], taps: int, dtype: mx.Dtype) -> None:
    """The two states carry everything from one call to the next."""
    whole = case((2, sum(pieces), 1, 2, 32, 32), dtype, taps)
    conv_state, state, parts, start = whole.arguments["conv_state"], whole.arguments["state"], [], 0
    for steps in pieces:
        piece = {
            name: value[:, start : start + steps] if name in PER_TOKEN else value
            for name, value in whole.arguments.items()
        }
        carried = {"conv_state": conv_state, "state": state}
        y, conv_state, state = backend.run("gated_delta_block", **{**piece, **carried})
        parts.append(y)
        start += steps
    whole.compare((mx.concatenate(parts, axis=1), conv_state, state))


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_right_padded_batch(backend: Backend, dtype: mx.Dtype) -> None:
    """A prompt in a padded batch leaves the states that it leaves alone, and what follows sees no padding."""
    lengths = [2, 7, 12]
    batch = case((3, 12, 1, 2, 32, 32), dtype).arguments
    together = backend.run("gated_delta_block", **batch, lengths=mx.array(lengths))
    for row, length in enumerate(lengths):
        alone = {name: value[row : row + 1, :length] if name in PER_TOKEN else value for name, value in batch.items()}
        alone |= {name: batch[name][row : row + 1] for name in ("conv_state", "state")}
        y, conv_state, state = together
        part = (y[row : row + 1, :length], conv_state[row : row + 1], state[row : row + 1])
        Case("gated_delta_block", **alone).compare(part)


@pytest.mark.parametrize("states", [False, True], ids=["first", "states"])
@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("taps", [2, 4, 8])
@pytest.mark.parametrize(("steps", "snapshots"), [(1, 1), (2, 2), (8, 1), (8, 8), (20, 3), (270, 30)])
def test_snapshots(backend: Backend, steps: int, snapshots: int, taps: int, dtype: mx.Dtype, states: bool) -> None:
    """The states after the last tokens, and all inputs that the convolutions behind each of them reach back to."""
    case((2, steps, 1, 2, 32, 32), dtype, taps, states, snapshots=snapshots).check(backend)


@pytest.mark.parametrize("steps", [4, 30])
@pytest.mark.parametrize("mask", MASKS)
def test_snapshots_of_masked_tokens(backend: Backend, mask: str, steps: int) -> None:
    keep = mx.array(MASKS[mask](3, steps, np.random.default_rng(1)))
    good = case((3, steps, 1, 2, 32, 32), snapshots=steps - 1).arguments
    Case("gated_delta_block", **good, mask=keep).check(backend)


@pytest.mark.parametrize("taps", [2, 4, 8])
@pytest.mark.parametrize("steps", [4, 5, 30])
def test_back_to_a_snapshot(backend: Backend, steps: int, taps: int) -> None:
    """From a snapshot and its part of conv_state on, it is as if the tokens after it had never been."""
    first = case((2, steps, 1, 2, 32, 32), taps=taps).arguments
    other = {name: case((2, 20, 1, 2, 32, 32), taps=taps).arguments[name] for name in PER_TOKEN}
    y, conv_state, states = backend.run("gated_delta_block", **{**first, "snapshots": 4})
    for i, seen in enumerate(range(steps - 3, steps + 1)):
        whole = {name: mx.concatenate([first[name][:, :seen], other[name]], axis=1) for name in PER_TOKEN}
        carried = {"conv_state": conv_state[:, i : i + taps - 1], "state": states[:, i]}
        next_y, *carried_on = backend.run("gated_delta_block", **{**first, **other, **carried})
        both = mx.concatenate([y[:, :seen], next_y], axis=1)
        Case("gated_delta_block", **{**first, **whole}).compare((both, *carried_on))


@pytest.mark.parametrize("snapshots", [1, 3])
def test_gradient_of_snapshots(snapshots: int) -> None:
    """That of the sum of what calls without the later tokens give."""
    arguments = case((2, 5, 1, 2, 32, 32)).arguments
    names = ("qkv", "conv_weight", "conv_state", "state")
    rng = np.random.default_rng(4)
    of_conv = normal(rng, 2, 3 + snapshots - 1, arguments["qkv"].shape[-1])
    of_states = normal(rng, 2, snapshots, 2, 32, 32)

    def one_call(*values: mx.array) -> mx.array:
        given = {**arguments, **dict(zip(names, values, strict=True))}
        _, conv_state, states = ops.gated_delta_block(**{**given, "snapshots": snapshots})
        return (conv_state * of_conv).sum() + (states * of_states).sum()

    def many_calls(*values: mx.array) -> mx.array:
        given = {**arguments, **dict(zip(names, values, strict=True))}
        inputs = mx.concatenate([given["conv_state"], given["qkv"]], axis=1)
        loss = (inputs[:, -of_conv.shape[1] :] * of_conv).sum()
        for i, end in enumerate(range(5 - snapshots + 1, 5 + 1)):
            cut = {name: value[:, :end] if name in PER_TOKEN else value for name, value in given.items()}
            loss += (ops.gated_delta_block(**cut)[2] * of_states[:, i]).sum()
        return loss

    values = [arguments[name] for name in names]
    got, want = (mx.grad(run, argnums=list(range(4)))(*values) for run in (one_call, many_calls))
    for name, one, other in zip(names, got, want, strict=True):
        assert mx.allclose(one, other, rtol=GRADIENT, atol=GRADIENT), name


def test_states_are_not_overwritten(backend: Backend) -> None:
    good = case((1, 3, 1, 2, 64, 32)).arguments
    before = [np.array(good[name]) for name in ("conv_state", "state")]
    backend.run("gated_delta_block", **good)
    for name, want in zip(("conv_state", "state"), before, strict=True):
        assert np.array_equal(np.array(good[name]), want)


def bad_calls() -> dict[str, dict[str, Any]]:
    good = case((2, 3, 2, 4, 32, 64)).arguments
    qkv, z, state, conv_state = (good[name] for name in ("qkv", "z", "state", "conv_state"))
    return {
        "qkv of two axes": {"qkv": qkv[0]},
        "qkv of integers": {"qkv": qkv.astype(mx.int32), "z": z.astype(mx.int32)},
        "channels that do not fit": {"qkv": qkv[..., :-1], "conv_weight": good["conv_weight"][:-1], "conv_state": None},
        "z of three axes": {"z": z.flatten(2)},
        "z of another dtype": {"z": z.astype(BF16)},
        "z of other steps": {"z": z[:, :2]},
        "a of other heads": {"a": good["a"][..., :3]},
        "a per channel": {"a": mx.zeros((2, 3, 4, 32))},
        "b of other steps": {"b": good["b"][:, :2]},
        "conv_weight of other channels": {"conv_weight": good["conv_weight"][:-1]},
        "conv_weight of two axes": {"conv_weight": good["conv_weight"][..., 0]},
        "conv_weight of one tap": {"conv_weight": good["conv_weight"][:, :1], "conv_state": None},
        "conv_weight of nine taps": {"conv_weight": mx.zeros((384, 9, 1)), "conv_state": None},
        "conv_state of other taps": {"conv_state": conv_state[:, :2]},
        "conv_state of another dtype": {"conv_state": conv_state.astype(BF16)},
        "A_log of other heads": {"A_log": mx.zeros(3)},
        "dt_bias of other heads": {"dt_bias": mx.zeros(3)},
        "norm_weight of another size": {"norm_weight": mx.zeros(63)},
        "state in bfloat16": {"state": state.astype(BF16)},
        "state transposed": {"state": state.swapaxes(-1, -2)},
        "no key heads": {"num_k_heads": 0},
        "negative key heads": {"num_k_heads": -2},
        "key heads that do not divide": {"num_k_heads": 3},
        "mask of numbers": {"mask": mx.ones((2, 3))},
        "mask of other steps": {"mask": mx.ones((2, 4), mx.bool_)},
        "lengths of reals": {"lengths": mx.ones(2)},
        "lengths of another batch": {"lengths": mx.ones(3, mx.int32)},
        "fewer snapshots than none": {"snapshots": -1},
        "more snapshots than tokens": {"snapshots": 4},
        "snapshots and lengths": {"snapshots": 1, "lengths": mx.ones(2, mx.int32)},
    }


@pytest.mark.parametrize("bad", bad_calls())
def test_bad_input(bad: str) -> None:
    with pytest.raises(ValueError, match="gated_delta"):
        ops.gated_delta_block(**{**case((2, 3, 2, 4, 32, 64)).arguments, **bad_calls()[bad]})
