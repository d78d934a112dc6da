"""The experts' shaders for a few tokens on the simulator, against the oracle: the plan and text that a Mac gets."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.arrays import BF16, F32, FLOATS, list_arrays, normal, quantized, short
from tests.metal.experts import mixed, uniform
from tests.metal.plans import SimulatedMetal
from tests.ops.case import Case
from tests.ops.test_moe_experts import Shape, experts, routed, shared_expert

METAL = SimulatedMetal()


@pytest.mark.parametrize("dtype", FLOATS, ids=short)
@pytest.mark.parametrize(
    "shape",
    [
        (0, 4, 2, 64, 64),
        (1, 16, 10, 128, 64),
        (2, 8, 8, 64, 128),
        (3, 1, 1, 64, 64),
        (7, 16, 16, 192, 64),
        (8, 512, 10, 64, 64),
    ],
    ids=short,
)
def test_shapes(shape: Shape, dtype: mx.Dtype) -> None:
    uniform(shape, dtype).check(METAL)
    assert len(METAL.results) == (2 if shape[0] else 0)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 2, 2, 2048, 32),
        (1, 2, 2, 32, 512),
        (1, 2, 2, 4096, 32),
        (1, 2, 2, 32, 1024),
        (1, 2, 2, 3072, 32),
        (1, 2, 2, 1088, 96),
        (2, 2, 1, 96, 1056),
    ],
    ids=short,
)
def test_widths_of_the_geometries(shape: Shape) -> None:
    """Each width in turn at full size, and some that no lane's share divides."""
    uniform(shape, BF16, group=32).check(METAL)


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", FLOATS, ids=short)
def test_formats(dtype: mx.Dtype, bits: int, group: int) -> None:
    uniform((2, 4, 2, 384, 128), dtype, bits, group).check(METAL)


@pytest.mark.parametrize("shared", ["", "plain", "gated"])
def test_shared_expert(shared: str) -> None:
    uniform((2, 5, 3, 128, 64), BF16, shared=shared).check(METAL)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=short)
def test_every_matrix_in_its_own_format(dtype: mx.Dtype) -> None:
    mixed(3, dtype).check(METAL)


def test_experts_with_all_tokens_and_with_none() -> None:
    """Three experts take every token, one of them twice in each row, the others none."""
    rng = np.random.default_rng(2)
    arguments: dict[str, Any] = {**routed(rng, (7,), 12, 4), **experts(rng, 12, 64, 64, dtype=BF16)}
    arguments["indices"] = mx.array(np.tile(np.array([5, 11, 0, 11], np.uint32), (7, 1)))
    Case("moe_experts", x=normal(rng, 7, 64, dtype=BF16), **arguments).check(METAL)


@pytest.mark.parametrize("dtype", FLOATS, ids=short)
def test_silu_at_its_ends(dtype: mx.Dtype) -> None:
    """Gate activations of hundreds, of either sign, neither overflow nor turn into NaN."""
    rng = np.random.default_rng(3)
    arguments: dict[str, Any] = {**routed(rng, (2,), 4, 2), **experts(rng, 4, 64, 64, dtype=dtype)}
    Case("moe_experts", x=normal(rng, 2, 64, dtype=dtype, scale=60.0), **arguments).check(METAL)


def test_denormals() -> None:
    x = normal(np.random.default_rng(4), 2, 64, dtype=BF16, scale=2.0**-130)
    arguments = uniform((2, 4, 2, 64, 64), BF16).arguments | {"x": x}
    Case("moe_experts", **arguments).check(METAL, tiny=2.0**-100)


def test_nan_stays_in_its_row() -> None:
    """A NaN in x or in a score, or an index of no expert, of which nothing is read."""
    arguments = dict(uniform((5, 4, 2, 64, 64), F32).arguments)
    (clean,) = METAL.run("moe_experts", **arguments)
    broken = [("x", 0, np.nan), ("scores", 1, np.nan), ("indices", 2, 4), ("indices", 3, 2**32 - 1)]
    for name, row, value in broken:
        array = np.array(arguments[name])
        array[row, 1] = value
        arguments[name] = mx.array(array)
    (y,) = METAL.run("moe_experts", **arguments)
    assert mx.isnan(y[:4]).all()
    assert mx.array_equal(y[4:], clean[4:])


@pytest.mark.parametrize("dtype", FLOATS, ids=short)
def test_same_bits_whatever_the_order_of_simdgroups(dtype: mx.Dtype) -> None:
    arguments = uniform((3, 16, 10, 128, 64), dtype).arguments
    first, *others = (SimulatedMetal(seed=seed).run("moe_experts", **arguments)[0] for seed in range(4))
    assert all(mx.array_equal(first, other) for other in others)


def test_counts() -> None:
    """Weights are read from memory once, there are no more loads than MLX has, and a barrier a threadgroup of down.

    At the 35B model's widths, with two experts and the shared one. MLX's own dispatches load 1.81 bytes for each weight
    there: its affine_gather_qmv_fast and affine_qmv_fast, as they are in mlx.metallib 0.32.4.
    """
    hidden, inner = 2048, 512
    rng = np.random.default_rng(5)
    layer = experts(rng, 2, hidden, inner, dtype=BF16)
    layer["shared"] = shared_expert(rng, hidden, inner, dtype=BF16)
    layer["shared_gate"] = quantized(rng, 1, hidden, bits=8, dtype=BF16)
    METAL.run("moe_experts", x=normal(rng, 1, hidden, dtype=BF16), **routed(rng, (1,), 2, 2), **layer)
    gate_up, down = (result.counters for result in METAL.results)
    bytes_of_layer = sum(array.nbytes for array in list_arrays(layer))
    assert 128 * (gate_up.device_lines_loaded + down.device_lines_loaded) <= 1.03 * bytes_of_layer
    assert gate_up.device_bytes_loaded + down.device_bytes_loaded <= 1.81 * 3 * 3 * hidden * inner
    assert gate_up.barriers == 0
    assert down.barriers == hidden // 8
