"""The experts' shaders for many tokens on the simulator, against the oracle: the same plan and text that a Mac gets."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import deltamoe_sim as sim
from deltamoe import _ext, ops
from tests import oracle
from tests.arrays import BF16, F16, F32, FLOATS, normal, numpy_of, quantized, short, to_oracle
from tests.metal.experts import mixed, uniform
from tests.metal.plans import SimulatedMetal, empty, library, to_numpy
from tests.ops.case import Case
from tests.ops.test_moe_experts import Shape, experts, routed
from tests.sim.launches import quantized as mlx_kernels
from tests.tolerance import assert_close

METAL = SimulatedMetal()


@pytest.mark.parametrize("dtype", FLOATS, ids=short)
@pytest.mark.parametrize(
    "shape",
    [
        (9, 64, 8, 160, 96),
        (10, 5, 5, 96, 160),
        (17, 6, 3, 96, 32),
        (64, 40, 4, 128, 96),
        (205, 8, 2, 96, 64),
    ],
    ids=short,
)
def test_shapes(shape: Shape, dtype: mx.Dtype) -> None:
    uniform(shape, dtype, group=32).check(METAL)


@pytest.mark.parametrize(("dtype", "bits"), [(F32, 4), (BF16, 4), (BF16, 8)], ids=short)
@pytest.mark.parametrize(
    ("tokens", "count", "routed", "shared"), [(9, 9, 8, 16), (15, 8, 16, 16), (30, 8, 32, 32), (65, 8, 64, 64)]
)
def test_row_tiles(tokens: int, count: int, routed: int, shared: int, dtype: mx.Dtype, bits: int) -> None:
    """Each tile, of routed experts and of the shared one, full or not."""
    small = uniform((tokens, count, 2, 160, 96), dtype, bits, 32)
    plan, _, _ = _ext.metal_plan(ops.moe_experts(**small.arguments, stream=mx.cpu))
    assert plan is not None
    functions = {dispatch["function"] for dispatch in plan["dispatches"]}
    type_and_format = f"{'float' if dtype == F32 else 'bfloat'}, Affine<32, {bits}>"
    for kernel in ("gate_up", "down"):
        assert f"moe_gemm_{kernel}<{type_and_format}, {routed}, true>" in functions
        assert f"moe_gemm_{kernel}<{type_and_format}, {shared}, false>" in functions
    assert f"moe_worklist<{routed}>" in functions
    small.check(METAL)


@pytest.mark.parametrize(
    "shape",
    [
        (9, 2, 2, 4096, 32),
        (9, 2, 2, 32, 1024),
        (9, 2, 2, 2048, 32),
        (9, 2, 2, 32, 512),
        (9, 2, 2, 3072, 32),
        (9, 2, 2, 1088, 96),
        (9, 2, 1, 96, 1056),
    ],
    ids=short,
)
def test_widths_of_the_geometries(shape: Shape) -> None:
    """Each width in turn at full size, and some that no step divides."""
    uniform(shape, BF16, group=32).check(METAL)


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
def test_formats(bits: int, group: int) -> None:
    uniform((12, 4, 2, 384, 128), BF16, bits, group).check(METAL)


@pytest.mark.parametrize("shared", ["", "plain", "gated"])
def test_shared_expert(shared: str) -> None:
    uniform((11, 5, 3, 128, 64), F16, group=32, shared=shared).check(METAL)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=short)
def test_every_matrix_in_its_own_format(dtype: mx.Dtype) -> None:
    mixed(10, dtype).check(METAL)


@pytest.mark.parametrize("tokens", [9, 100])
def test_experts_with_all_tokens_and_with_none(tokens: int) -> None:
    """One expert takes every token, some take none, and one is named twice in each row."""
    rng = np.random.default_rng([2, tokens])
    arguments: dict[str, Any] = {**routed(rng, (tokens,), 12, 4), **experts(rng, 12, 64, 64, dtype=BF16)}
    indices = np.tile(np.array([5, 11, 0, 11], np.uint32), (tokens, 1))
    indices[::7, 2] = 3
    arguments["indices"] = mx.array(indices)
    Case("moe_experts", x=normal(rng, tokens, 64, dtype=BF16), **arguments).check(METAL)


def test_most_experts() -> None:
    """More experts than a threadgroup of the work list has, and as many as it can count."""
    uniform((40, 1024, 16, 32, 32), BF16, group=32).check(METAL)


@pytest.mark.parametrize("k", [1, 3, 16])
def test_slots(k: int) -> None:
    uniform((21, 16, k, 32, 32), F32, group=32).check(METAL)


def test_more_rows_than_16_bits_count() -> None:
    uniform((4_200, 16, 16, 32, 32), BF16, group=32).check(SimulatedMetal(checked=False))


@pytest.mark.parametrize("dtype", FLOATS, ids=short)
def test_silu_at_its_ends(dtype: mx.Dtype) -> None:
    """Gate activations of hundreds, of either sign, neither overflow nor turn into NaN."""
    rng = np.random.default_rng(3)
    arguments: dict[str, Any] = {**routed(rng, (10,), 4, 2), **experts(rng, 4, 64, 64, dtype=dtype)}
    Case("moe_experts", x=normal(rng, 10, 64, dtype=dtype, scale=60.0), **arguments).check(METAL)


def test_nan_stays_in_its_row() -> None:
    arguments = uniform((19, 4, 2, 64, 32), F32, group=32).arguments
    (clean,) = METAL.run("moe_experts", **arguments)
    x = mx.array(arguments["x"])
    x[0, 3] = float("nan")
    scores = mx.array(arguments["scores"])
    scores[1, 1] = float("nan")
    (y,) = METAL.run("moe_experts", **{**arguments, "x": x, "scores": scores})
    assert mx.isnan(y[:2]).all()
    assert mx.array_equal(y[2:], clean[2:])


def test_index_that_names_no_expert() -> None:
    """It makes its token NaN, reads nothing out of bounds, and disturbs nobody."""
    arguments = uniform((19, 4, 2, 64, 32), F32, group=32).arguments
    (clean,) = METAL.run("moe_experts", **arguments)
    indices = mx.array(arguments["indices"])
    indices[0, 1] = 4
    indices[18, 0] = 2**32 - 1
    (y,) = METAL.run("moe_experts", **{**arguments, "indices": indices})
    assert mx.isnan(y[0]).all()
    assert mx.isnan(y[18]).all()
    assert mx.array_equal(y[1:18], clean[1:18])


@pytest.mark.parametrize("shape", [(19, 40, 4, 64, 32), (100, 4, 2, 64, 32)], ids=short)
def test_same_bits_whatever_the_order_of_simdgroups(shape: Shape) -> None:
    arguments = uniform(shape, F32, group=32).arguments
    first, *others = (SimulatedMetal(seed=seed).run("moe_experts", **arguments)[0] for seed in range(4))
    for other in others:
        assert mx.array_equal(first, other)


@pytest.mark.parametrize(("tokens", "saved"), [(64, 1.6), (204, 3.5)])
def test_work_list(tokens: int, saved: float) -> None:
    """Rows by expert and pair, in tiles. Here MLX loads an expert's weights once per pair, and we once per tile."""
    count, k = 512, 10
    indices = np.array(routed(np.random.default_rng(tokens), (tokens,), count, k)["indices"])
    width = {"hidden": 32, "intermediate": 32, "gate_up": (32, 4), "down": (32, 4), "dtype": "bfloat16"}
    plan = _ext.plan_moe_experts(tokens=tokens, experts=count, k=k, **width)
    first = plan["dispatches"][0]
    kernel = library(first["source"], first["function"]).kernel(first["kernel"], checked=True)
    lists = {name: np.empty(indices.size, np.uint32) for name in ("tokens", "rows")}
    lists |= {"tiles": np.empty((plan["dispatches"][1]["grid"][1], 3), np.uint32), "count": np.empty(1, np.uint32)}
    result = kernel.run(
        grid=first["grid"],
        threadgroup=first["threadgroup"],
        buffers={"indices": indices, **lists, "sizes": np.frombuffer(first["buffers"][-1], np.uint8)},
        outputs=list(lists),
    )
    assert not result.reports
    assert result.unwritten.keys() <= {"tiles"}

    order = np.argsort(indices.reshape(-1), kind="stable")
    assert np.array_equal(lists["tokens"], order // k)
    assert np.array_equal(lists["rows"][order], np.arange(indices.size))
    sizes = np.bincount(indices.reshape(-1), minlength=count)
    starts = np.cumsum(sizes) - sizes
    height = int(first["function"].removeprefix("moe_worklist<").removesuffix(">"))
    tiles = [
        (e, starts[e] + row, min(height, sizes[e] - row)) for e in range(count) for row in range(0, sizes[e], height)
    ]
    assert lists["count"][0] == len(tiles) <= len(lists["tiles"])
    assert np.array_equal(lists["tiles"][: len(tiles)], tiles)
    assert indices.size >= saved * len(tiles)


def test_columns_that_fill_no_matrix() -> None:
    """Widths of the op are multiples of 32; the product takes any number of columns."""
    rng = np.random.default_rng(9)
    rows, columns, depth = 11, 20, 96
    h, down = normal(rng, rows, depth), quantized(rng, columns, depth, group=32)
    products = library("moe/gemm", "moe_gemm_down<float, Affine<32, 4>, 16, false>")
    none = np.zeros(1, np.uint32)
    z = empty((rows, columns), F32)
    matrix = dict(zip(("down", "down_scales", "down_biases"), map(to_numpy, down), strict=True))
    result = products.kernel("moe_gemm_down_float_Affine_32_4_16_false").run(
        grid=(1, 1, 1),
        threadgroup=(128, 1, 1),
        buffers={
            "h": to_numpy(h),
            "tiles": none.view(np.uint8),
            "count": none,
            **matrix,
            "z": z,
            "sizes": np.array([rows, columns, depth], np.uint32).view(np.uint8),
        },
        outputs=["z"],
    )
    assert not result.reports
    assert not result.unwritten
    assert_close(mx.array(z), oracle.qlinear(numpy_of(h), to_oracle(down))[0])


@pytest.mark.parametrize("dtype", [F16, BF16], ids=short)
@pytest.mark.parametrize("sizes", [(20, 0, 13, 31), (4, 5, 4, 3)], ids=short)
def test_no_more_than_mlx(sizes: tuple[int, ...], dtype: mx.Dtype) -> None:
    """Where MLX multiplies rows by expert too, gate and up apart: bytes loaded, matrix operations, barriers."""
    hidden, inner = 256, 128
    rng = np.random.default_rng(sizes)
    form: dict[str, Any] = {"group": 64, "dtype": dtype}
    arguments = {
        "x": normal(rng, sum(sizes), hidden, dtype=dtype),
        "indices": mx.array(np.repeat(np.arange(len(sizes)), sizes).astype(np.uint32)[:, None]),
        "scores": mx.ones((sum(sizes), 1)),
        **experts(rng, len(sizes), hidden, inner, **form),
    }
    METAL.run("moe_experts", **arguments)
    gate_up, down = (result.counters for result in METAL.results[1:3])

    def mlx(columns: int, depth: int) -> sim.Counters:
        theirs = mlx_kernels.affine_gather_qmm_rhs(
            rng, dtype, sizes=sizes, columns=columns, depth=depth, group=64, bits=4
        )
        return theirs.run(theirs.compile(), checked=True)[0].counters

    mlx_gate, mlx_down = mlx(inner, hidden), mlx(hidden, inner)
    for counter in ("device_bytes_loaded", "matrix_ops", "barriers", "threadgroup_bytes_loaded"):
        assert getattr(gate_up, counter) <= 2 * getattr(mlx_gate, counter), counter
        assert getattr(down, counter) <= getattr(mlx_down, counter), counter
