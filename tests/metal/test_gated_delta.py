"""The gated delta rule's shaders on the simulator, against the oracle: the plan and text that a Mac gets.

A function of the shaders takes longer to compile than most cases to run. So tests share some few, of float32 with a
state and heads of 32; what a function's text depends on is varied where a test says so.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.arrays import BF16, F16, F32, short
from tests.metal.delta import KERNELS, SEQUENTIAL, in_pieces, masked, spoilt
from tests.metal.plans import SimulatedMetal
from tests.ops.case import Case
from tests.ops.test_gated_delta import MASKS, case, constant_gates
from tests.tolerance import LONG_STATE_L2, assert_close


@pytest.mark.parametrize("chunk", KERNELS)
@pytest.mark.parametrize(
    ("batch", "steps", "heads"),
    [
        (3, 1, (1, 2)),
        (2, 2, (2, 2)),
        (1, 4, (1, 4)),
        (1, 7, (1, 4)),
        (2, 8, (1, 1)),
        (3, 9, (2, 4)),
        (1, 31, (1, 2)),
        (2, 64, (1, 2)),
        (1, 65, (2, 8)),
        (1, 257, (1, 1)),
    ],
    ids=short,
)
def test_lengths_of_time(batch: int, steps: int, heads: tuple[int, int], chunk: int) -> None:
    metal = SimulatedMetal(chunk=chunk)
    case((batch, steps, *heads, 32, 32)).check(metal)
    assert len(metal.results) == (2 if chunk else 1)


@pytest.mark.parametrize(
    ("chunk", "dtype", "types"),
    [
        (SEQUENTIAL, BF16, (BF16, F32, F16)),
        (16, BF16, (F16, BF16, F32)),
        (32, F16, (F32, F16, BF16)),
        (64, F32, (BF16, F16, F16)),
    ],
    ids=short,
)
@pytest.mark.parametrize("steps", [5, 66])
def test_dtypes(steps: int, chunk: int, dtype: mx.Dtype, types: tuple[mx.Dtype, ...]) -> None:
    """With those of a and b, of A_log, and of dt_bias; and without a state."""
    good = case((2, steps, 1, 2, 32, 32), dtype, state=False).arguments
    names = {"a": types[0], "b": types[0], "A_log": types[1], "dt_bias": types[2]}
    given = {name: good[name].astype(to) for name, to in names.items()}
    Case("gated_delta", **good | given).check(SimulatedMetal(chunk=chunk))


@pytest.mark.parametrize(
    ("width", "chunk"),
    [((96, 32), SEQUENTIAL), ((32, 160), SEQUENTIAL), ((256, 96), 16), ((96, 256), 32), ((256, 256), 64)],
    ids=short,
)
def test_widths(width: tuple[int, int], chunk: int) -> None:
    case((1, chunk + 9, 1, 1, *width), BF16).check(SimulatedMetal(chunk=chunk))


@pytest.mark.parametrize(("width", "dtype"), [((32, 32), F32), ((256, 256), BF16)], ids=short)
def test_gate_per_channel(width: tuple[int, int], dtype: mx.Dtype) -> None:
    for steps in 9, 21:
        case((2, steps, 1, 2, *width), dtype, dtype, per_channel=True).check(SimulatedMetal())


def test_a_log_with_an_axis_more() -> None:
    good = case((2, 9, 2, 4, 32, 32)).arguments
    Case("gated_delta", **good | {"A_log": good["A_log"][:, None]}).check(SimulatedMetal())


@pytest.mark.parametrize("state", [False, True], ids=["zeros", "state"])
def test_no_tokens(state: bool) -> None:
    _, new_state = case((2, 0, 1, 2, 32, 32), state=state).check(SimulatedMetal())
    assert state == bool(mx.any(new_state != 0))


@pytest.mark.parametrize("shape", [(0, 3, 1, 2, 32, 32), (0, 300, 1, 2, 32, 32)], ids=short)
def test_no_sequences(shape: tuple[int, int, int, int, int, int]) -> None:
    metal = SimulatedMetal()
    case(shape).check(metal)
    assert metal.results == []


def check_masked(good: Case, keep: np.ndarray, metal: SimulatedMetal) -> None:
    """A masked token yields 0 and leaves the state alone, to the bit."""
    y, new_state = masked(good, keep).check(metal)
    assert (np.array(y)[~keep] == 0).all()
    assert_untouched(new_state, good, ~keep.any(axis=1))


def assert_untouched(new_state: mx.array, good: Case, idle: np.ndarray) -> None:
    """Some sequences keep their state to the bit."""
    before = good.arguments["state"]
    before = mx.zeros(new_state.shape) if before is None else before
    assert np.array_equal(np.array(new_state)[idle], np.array(before)[idle])


@pytest.mark.parametrize("chunk", KERNELS)
@pytest.mark.parametrize("steps", [5, 37, 66])
@pytest.mark.parametrize("mask", MASKS)
def test_masks(mask: str, steps: int, chunk: int) -> None:
    keep = MASKS[mask](3, steps, np.random.default_rng(1))
    check_masked(case((3, steps, 1, 2, 32, 32)), keep, SimulatedMetal(chunk=chunk))


@pytest.mark.parametrize("chunk", [SEQUENTIAL, 16])
def test_masks_without_a_state(chunk: int) -> None:
    for mask in "arbitrary", "none kept", "one row none":
        keep = MASKS[mask](3, 20, np.random.default_rng(1))
        check_masked(case((3, 20, 1, 2, 32, 32), state=False), keep, SimulatedMetal(chunk=chunk))


def test_masks_of_a_gate_per_channel() -> None:
    keep = MASKS["arbitrary"](3, 21, np.random.default_rng(4))
    keep[0] = False
    check_masked(case((3, 21, 1, 2, 32, 32), per_channel=True), keep, SimulatedMetal())


@pytest.mark.parametrize("chunk", KERNELS)
def test_masked_tokens_may_hold_nan(chunk: int) -> None:
    metal = SimulatedMetal(chunk=chunk)
    good = case((2, 20, 1, 2, 32, 32))
    keep = np.random.default_rng(2).random((2, 20)) < 0.6
    clean = masked(good, keep).check(metal)
    for got, want in zip(metal.run("gated_delta", **spoilt(good, keep), mask=mx.array(keep)), clean, strict=True):
        assert mx.array_equal(got, want)


@pytest.mark.parametrize(("chunk", "mask"), [(SEQUENTIAL, False), (SEQUENTIAL, True), (16, True), (64, False)])
@pytest.mark.parametrize("steps", [5, 70])
def test_lengths(steps: int, chunk: int, mask: bool) -> None:
    """Lengths of nothing, of part, and beyond the end, with a mask or without; what they cut off is never read."""
    lengths = np.array([0, steps // 2, steps + 3, -1])
    live = np.arange(steps) < lengths[:, None]
    good = case((4, steps, 1, 1, 32, 32))
    extra = {"lengths": mx.array(lengths.astype(np.int32))}
    if mask:
        extra["mask"] = mx.array(np.random.default_rng(3).random((4, steps)) < 0.5)
    metal = SimulatedMetal(chunk=chunk)
    y, new_state = Case("gated_delta", **good.arguments, **extra).check(metal)
    assert (np.array(y)[~live] == 0).all()
    assert_untouched(new_state, good, ~live.any(axis=1))
    for got, want in zip(metal.run("gated_delta", **spoilt(good, live), **extra), (y, new_state), strict=True):
        assert mx.array_equal(got, want)


DECAYS = [(-9.2, -9.0), (13.0, 13.8), (-9.2, 13.8), (60.0, 90.0), (-90.0, -60.0), (-90.0, 90.0)]


@pytest.mark.parametrize("chunk", KERNELS)
@pytest.mark.parametrize("decay", DECAYS, ids=lambda decay: f"{decay[0]}to{decay[1]}")
def test_extreme_gates(decay: tuple[float, float], chunk: int) -> None:
    """From 1 - 1e-4, and 1 itself, to 1e-6, and 0 itself: a chunk's product of gates leaves float32's range."""
    case((1, 130, 1, 2, 32, 32), decay=decay).check(SimulatedMetal(chunk=chunk))


@pytest.mark.parametrize("chunk", KERNELS)
@pytest.mark.parametrize("a", [0.0, 5.0, 13.8])
def test_gate_near_0(a: float, chunk: int) -> None:
    """Its own digits count where nothing is added to what it leaves of the state."""
    good = case((1, 1, 1, 2, 32, 32), decay=(a, a)).arguments
    Case("gated_delta", **good | {"b": mx.full((1, 1, 2), -40.0)}).check(SimulatedMetal(chunk=chunk))


@pytest.mark.parametrize("decay", [(-9.2, -9.0), (-90.0, 90.0)], ids=lambda decay: f"{decay[0]}to{decay[1]}")
def test_extreme_gates_per_channel(decay: tuple[float, float]) -> None:
    case((1, 65, 1, 2, 32, 32), per_channel=True, decay=decay).check(SimulatedMetal())


@pytest.mark.parametrize("chunk", KERNELS)
@pytest.mark.parametrize("allow_neg_eigval", [False, True], ids=["beta1", "beta2"])
@pytest.mark.parametrize("decay", [(-9.2, -7.0), (-3.0, 3.0)], ids=["long", "short"])
def test_parallel_keys(decay: tuple[float, float], allow_neg_eigval: bool, chunk: int) -> None:
    """A chunk's triangular system at its worst: coinciding keys and beta near its limit."""
    hard: dict[str, Any] = {"parallel": True, "beta": 6.0, "allow_neg_eigval": allow_neg_eigval}
    case((1, 257, 1, 2, 32, 32), decay=decay, **hard).check(SimulatedMetal(chunk=chunk, checked=False))


LONG = (1, 4096, 1, 1, 32, 32)


@pytest.mark.parametrize("chunk", KERNELS)
@pytest.mark.parametrize("allow_neg_eigval", [False, True], ids=["beta1", "beta2"])
@pytest.mark.parametrize(
    ("decay", "parallel"),
    [((-9.2, 13.8), False), ((-9.2, 2.0), True), ((-9.2, -6.0), False), ((-9.2, -9.0), True), ((13.0, 13.8), True)],
    ids=short,
)
def test_state_after_4096_tokens(
    decay: tuple[float, float], parallel: bool, allow_neg_eigval: bool, chunk: int
) -> None:
    """Gates from 1e-6 to 1 - 1e-4: of all kinds, slow ones only, or fast ones only."""
    case(LONG, decay=decay, parallel=parallel, allow_neg_eigval=allow_neg_eigval).check(
        SimulatedMetal(chunk=chunk, checked=False), l2=LONG_STATE_L2
    )


@pytest.mark.parametrize("chunk", KERNELS)
@pytest.mark.parametrize("a", [-9.181, -7.066])
def test_constant_gate_after_4096_tokens(a: float, chunk: int) -> None:
    """A state that remembers thousands of tokens, and a gate near 1 half way between two numbers of float32."""
    constant_gates(LONG, a).check(SimulatedMetal(chunk=chunk, checked=False), l2=LONG_STATE_L2)


@pytest.mark.parametrize("chunk", KERNELS)
@pytest.mark.parametrize("decay", [(-9.2, 13.8), (-9.2, -6.0)], ids=short)
def test_bfloat16_after_4096_tokens(decay: tuple[float, float], chunk: int) -> None:
    """y is rounded once and no more; the state is float32's, however slowly it decays."""
    long = case(LONG, BF16, BF16, decay=decay, parallel=True, allow_neg_eigval=True)
    y, state = SimulatedMetal(chunk=chunk, checked=False).run("gated_delta", **long.arguments)
    assert_close(y, long.want[0], "y")
    assert_close(state, long.want[1], "state", l2=LONG_STATE_L2)


@pytest.mark.parametrize(
    ("pieces", "chunk"),
    [
        *[((1, 1, 1), SEQUENTIAL), ((16, 1, 30), SEQUENTIAL), ((33, 0, 14), SEQUENTIAL)],
        *[((16, 1, 30), 16), ((33, 14), 16), ((33, 14), 32), ((3, 70), 64)],
    ],
    ids=short,
)
def test_in_pieces(pieces: tuple[int, ...], chunk: int) -> None:
    """The state carries everything from one call to the next."""
    whole = case((2, sum(pieces), 1, 2, 32, 32))
    whole.compare(in_pieces(SimulatedMetal(chunk=chunk), whole, pieces))


@pytest.mark.parametrize("chunk", KERNELS)
def test_same_bits_whatever_the_order_of_simdgroups(chunk: int) -> None:
    arguments = case((2, 70, 1, 2, 32, 32)).arguments
    runs = [SimulatedMetal(chunk=chunk, seed=seed).run("gated_delta", **arguments) for seed in range(4)]
    for results in runs[1:]:
        assert all(mx.array_equal(got, want) for got, want in zip(results, runs[0], strict=True))


@pytest.mark.parametrize(
    ("steps", "kept", "per_channel"), [(1, 1, False), (5, 5, False), (20, 9, False), (9, 3, True), (20, 20, True)]
)
def test_snapshots(steps: int, kept: int, per_channel: bool) -> None:
    """The state after each of the last tokens."""
    metal = SimulatedMetal()
    shape = (2, steps, 1, 2, 32, 32)
    _, states = case(shape, per_channel=per_channel, snapshots=kept).check(metal)
    _, last = case(shape, per_channel=per_channel).check(metal)
    assert mx.array_equal(states[:, -1], last)


def test_snapshots_under_a_mask() -> None:
    """Those at masked tokens are what came before them."""
    keep = np.random.default_rng(5).random((3, 11)) < 0.5
    keep[1], keep[2] = True, False
    masked(case((3, 11, 1, 2, 32, 32), snapshots=7), keep).check(SimulatedMetal())


STATE = 7
"""Its place among the inputs."""


@pytest.mark.parametrize(
    ("steps", "per_channel", "chunk"),
    [(1, False, SEQUENTIAL), (19, False, SEQUENTIAL), (19, True, SEQUENTIAL), (37, False, 16), (37, False, 32)],
)
def test_state_is_updated_in_place(steps: int, per_channel: bool, chunk: int) -> None:
    """The new state may take the memory of the old one."""
    good = case((2, steps, 1, 2, 32, 32), per_channel=per_channel).arguments
    want = SimulatedMetal(chunk=chunk).run("gated_delta", **good)
    got = SimulatedMetal(chunk=chunk, donated={1: STATE}).run("gated_delta", **good)
    assert all(mx.array_equal(a, b) for a, b in zip(got, want, strict=True))


SEGMENT = 8192
"""Tokens of a dispatch of the chunked kernels."""


@pytest.mark.parametrize("chunk", [16, 64])
def test_segments(chunk: int) -> None:
    """The state goes from one to the next in the output, also where the last is no whole chunk."""
    metal = SimulatedMetal(chunk=chunk, checked=False)
    case((1, SEGMENT + 70, 1, 1, 32, 32), decay=(-9.2, 2.0)).check(metal, l2=LONG_STATE_L2)
    assert len(metal.results) == 4


@pytest.mark.parametrize("chunk", [SEQUENTIAL, 32])
def test_more_rows_than_16_bits_count(chunk: int) -> None:
    case((34, 1000, 1, 1, 32, 32)).check(SimulatedMetal(chunk=chunk, checked=False), l2=LONG_STATE_L2)


@given(data=st.data())
@pytest.mark.parametrize("chunk", KERNELS)
def test_any_sizes(chunk: int, data: st.DataObject) -> None:
    batch, steps = data.draw(st.integers(1, 3), "B"), data.draw(st.integers(1, 70), "T")
    k_heads = data.draw(st.integers(1, 3), "Hk")
    shape = (batch, steps, k_heads, k_heads * data.draw(st.integers(1, 3), "Hv / Hk"), 32, 32)
    snapshots = 0 if chunk else data.draw(st.integers(0, steps), "K")
    drawn = case(shape, decay=data.draw(st.sampled_from(DECAYS), "decay"), snapshots=snapshots)
    if data.draw(st.booleans(), "mask"):
        drawn = masked(drawn, np.random.default_rng(0).random((batch, steps)) < data.draw(st.floats(0, 1), "kept"))
    drawn.check(SimulatedMetal(chunk=chunk))
