"""The whole DeltaNet block's shaders on the simulator, against the oracle: the plan and text that a Mac gets.

As in test_gated_delta.py, tests share some few functions: of float32, 4 taps, both states and heads of 32.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.arrays import BF16, F16, F32, short
from tests.metal.delta import KERNELS, SEQUENTIAL, in_pieces, masked, spoilt
from tests.metal.plans import SimulatedMetal
from tests.ops.case import Case
from tests.ops.test_gated_delta import MASKS
from tests.ops.test_gated_delta_block import PER_TOKEN, case
from tests.tolerance import LONG_STATE_L2, assert_close


@pytest.mark.parametrize("chunk", KERNELS)
@pytest.mark.parametrize(
    ("batch", "steps", "heads"),
    [
        (2, 1, (1, 2)),
        (3, 2, (2, 2)),
        (1, 3, (1, 4)),
        (1, 7, (1, 2)),
        (2, 8, (1, 4)),
        (3, 9, (1, 1)),
        (1, 31, (2, 4)),
        (2, 64, (1, 1)),
        (1, 65, (1, 2)),
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
        (SEQUENTIAL, BF16, (F32, F16, BF16, F16, BF16)),
        (32, F16, (BF16, BF16, F32, BF16, F32)),
    ],
    ids=short,
)
@pytest.mark.parametrize("steps", [5, 66])
def test_dtypes(steps: int, chunk: int, dtype: mx.Dtype, types: tuple[mx.Dtype, ...]) -> None:
    """With those of conv_weight, of a and b, of A_log, of dt_bias, and of norm_weight; and without states."""
    good = case((2, steps, 1, 2, 32, 32), dtype, states=False).arguments
    names = dict(zip(("conv_weight", "a", "A_log", "dt_bias", "norm_weight"), types, strict=True))
    names["b"] = names["a"]
    given = {name: good[name].astype(to) for name, to in names.items()}
    Case("gated_delta_block", **good | given).check(SimulatedMetal(chunk=chunk))


@pytest.mark.parametrize(
    ("width", "chunk"),
    [((256, 256), SEQUENTIAL), ((128, 128), 16), ((160, 96), 32), ((256, 256), 64)],
    ids=short,
)
def test_widths(width: tuple[int, int], chunk: int) -> None:
    case((1, chunk + 9, 1, 1, *width), BF16).check(SimulatedMetal(chunk=chunk))


@pytest.mark.parametrize(
    ("taps", "chunk", "states"),
    [(2, SEQUENTIAL, True), (8, SEQUENTIAL, False), (8, 16, True), (2, 64, False)],
)
def test_taps(taps: int, chunk: int, states: bool) -> None:
    """The convolution reaches back into the conv_state, and into what was staged before."""
    for steps in 5, 37:
        case((2, steps, 1, 2, 32, 32), taps=taps, states=states).check(SimulatedMetal(chunk=chunk))


@pytest.mark.parametrize("chunk", [SEQUENTIAL, 16])
@pytest.mark.parametrize("eps", [1e-12, 1e-2])
def test_norm_eps(eps: float, chunk: int) -> None:
    case((2, 9, 1, 2, 32, 32), eps=eps).check(SimulatedMetal(chunk=chunk))


@pytest.mark.parametrize("states", [False, True], ids=["first", "states"])
def test_no_tokens(states: bool) -> None:
    case((2, 0, 1, 2, 32, 32), states=states).check(SimulatedMetal())


@pytest.mark.parametrize("chunk", [SEQUENTIAL, 16, 64])
@pytest.mark.parametrize("steps", [3, 37])
@pytest.mark.parametrize("mask", MASKS)
def test_masks(mask: str, steps: int, chunk: int) -> None:
    """A masked token yields 0, is 0 to the convolution, and leaves the state alone, to the bit."""
    keep = MASKS[mask](3, steps, np.random.default_rng(1))
    good = case((3, steps, 1, 2, 32, 32))
    y, _, state = masked(good, keep).check(SimulatedMetal(chunk=chunk))
    assert (np.array(y)[~keep] == 0).all()
    idle = ~keep.any(axis=1)
    assert np.array_equal(np.array(state)[idle], np.array(good.arguments["state"])[idle])


@pytest.mark.parametrize("chunk", [SEQUENTIAL, 16, 64])
def test_masked_tokens_may_hold_nan(chunk: int) -> None:
    metal = SimulatedMetal(chunk=chunk)
    good = case((2, 20, 1, 2, 32, 32))
    keep = np.random.default_rng(2).random((2, 20)) < 0.6
    clean = masked(good, keep).check(metal)
    for got, want in zip(metal.run(good.op, **spoilt(good, keep), mask=mx.array(keep)), clean, strict=True):
        assert mx.array_equal(got, want)


@pytest.mark.parametrize(("chunk", "mask"), [(SEQUENTIAL, False), (SEQUENTIAL, True), (16, True), (32, False)])
@pytest.mark.parametrize("steps", [1, 6, 40])
def test_lengths(steps: int, chunk: int, mask: bool) -> None:
    """The new conv_state ends at each sequence's length, be that 0, within the kernel's reach or beyond T."""
    lengths = np.array([0, 1, steps // 2, steps, steps + 3, -1], np.int32)
    live = np.arange(steps) < lengths[:, None]
    good = case((6, steps, 1, 1, 32, 32))
    extra = {"lengths": mx.array(lengths)}
    if mask:
        extra["mask"] = mx.array(np.random.default_rng(3).random((6, steps)) < 0.5)
    metal = SimulatedMetal(chunk=chunk)
    clean = Case("gated_delta_block", **good.arguments, **extra).check(metal)
    for got, want in zip(metal.run(good.op, **spoilt(good, live), **extra), clean, strict=True):
        assert mx.array_equal(got, want)


@pytest.mark.parametrize(
    ("pieces", "chunk"),
    [
        *[((1, 1, 1), SEQUENTIAL), ((16, 1, 30), SEQUENTIAL), ((2, 0, 5), SEQUENTIAL)],
        *[((1, 1, 1), 16), ((16, 1, 30), 16), ((2, 35), 32), ((33, 40), 64)],
    ],
    ids=short,
)
def test_in_pieces(pieces: tuple[int, ...], chunk: int) -> None:
    """The two states carry everything from one call to the next."""
    whole = case((2, sum(pieces), 1, 2, 32, 32))
    whole.compare(in_pieces(SimulatedMetal(chunk=chunk), whole, pieces))


@pytest.mark.parametrize("chunk", KERNELS)
def test_same_bits_whatever_the_order_of_simdgroups(chunk: int) -> None:
    arguments = case((2, 70, 1, 2, 32, 32)).arguments
    runs = [SimulatedMetal(chunk=chunk, seed=seed).run("gated_delta_block", **arguments) for seed in range(4)]
    for results in runs[1:]:
        assert all(mx.array_equal(got, want) for got, want in zip(results, runs[0], strict=True))


@pytest.mark.parametrize(("steps", "kept"), [(1, 1), (2, 2), (8, 3), (20, 11)])
def test_snapshots(steps: int, kept: int) -> None:
    """Each, with the rows of conv_state that belong to it, is as if the tokens after it had never been."""
    metal = SimulatedMetal()
    shape = (2, steps, 1, 2, 32, 32)
    y, rows, states = case(shape, snapshots=kept).check(metal)
    taken = case(shape).arguments
    for j in range(kept):
        end = steps - kept + 1 + j
        seen = {name: taken[name][:, :end] for name in PER_TOKEN}
        Case("gated_delta_block", **taken | seen).compare((y[:, :end], rows[:, j : j + 3], states[:, j]))


def test_snapshots_under_a_mask() -> None:
    """Those at masked tokens are what came before them."""
    keep = np.random.default_rng(5).random((3, 11)) < 0.5
    keep[1], keep[2] = True, False
    masked(case((3, 11, 1, 2, 32, 32), snapshots=7), keep).check(SimulatedMetal())


STATE = 9
"""Its place among the inputs."""


@pytest.mark.parametrize(("steps", "chunk"), [(1, SEQUENTIAL), (19, SEQUENTIAL), (37, 16)])
def test_state_is_updated_in_place(steps: int, chunk: int) -> None:
    """The new state may take the memory of the old one."""
    good = case((2, steps, 1, 2, 32, 32)).arguments
    want = SimulatedMetal(chunk=chunk).run("gated_delta_block", **good)
    got = SimulatedMetal(chunk=chunk, donated={2: STATE}).run("gated_delta_block", **good)
    assert all(mx.array_equal(a, b) for a, b in zip(got, want, strict=True))


def test_segments() -> None:
    """The convolution reaches back across their border."""
    metal = SimulatedMetal(chunk=32, checked=False)
    case((1, 8192 + 40, 1, 1, 32, 32)).check(metal, l2=LONG_STATE_L2)
    assert len(metal.results) == 4


@pytest.mark.parametrize("chunk", [SEQUENTIAL, 16])
def test_bfloat16_after_4096_tokens(chunk: int) -> None:
    """y is rounded once and no more."""
    long = case((1, 4096, 1, 1, 32, 32), BF16)
    y, conv_state, state = SimulatedMetal(chunk=chunk, checked=False).run(long.op, **long.arguments)
    assert_close(y, long.want[0], "y")
    assert_close(conv_state, long.want[1], "conv_state")
    assert_close(state, long.want[2], "state", l2=LONG_STATE_L2)


@given(data=st.data())
@pytest.mark.parametrize("chunk", [SEQUENTIAL, 16, 64])
def test_any_sizes(chunk: int, data: st.DataObject) -> None:
    batch, steps = data.draw(st.integers(1, 3), "B"), data.draw(st.integers(1, 40), "T")
    k_heads = data.draw(st.integers(1, 2), "Hk")
    shape = (batch, steps, k_heads, k_heads * data.draw(st.integers(1, 3), "Hv / Hk"), 32, 32)
    drawn = case(shape, snapshots=0 if chunk else data.draw(st.integers(0, steps), "K"))
    if data.draw(st.booleans(), "mask"):
        drawn = masked(drawn, np.random.default_rng(0).random((batch, steps)) < data.draw(st.floats(0, 1), "kept"))
    drawn.check(SimulatedMetal(chunk=chunk))
