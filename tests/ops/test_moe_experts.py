"""moe_experts against its oracle."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltamoe import ops
from deltamoe.ops import Quantized
from tests.arrays import BF16, F16, F32, FLOATS, normal, quantized
from tests.backends import BACKENDS, Backend
from tests.ops.case import Case

Shape = tuple[int, int, int, int, int]
"""tokens, experts, k, H, I"""


def experts(rng: np.random.Generator, count: int, hidden: int, inner: int, **form: Any) -> dict[str, Quantized]:
    """gate, up and down of ``count`` experts."""
    return {
        "gate": quantized(rng, count, inner, hidden, **form),
        "up": quantized(rng, count, inner, hidden, **form),
        "down": quantized(rng, count, hidden, inner, **form),
    }


def shared_expert(
    rng: np.random.Generator, hidden: int, inner: int, **form: Any
) -> tuple[Quantized, Quantized, Quantized]:
    """gate, up and down of a shared expert."""
    gate, up = quantized(rng, inner, hidden, **form), quantized(rng, inner, hidden, **form)
    return gate, up, quantized(rng, hidden, inner, **form)


def routed(rng: np.random.Generator, batch: tuple[int, ...], count: int, k: int) -> dict[str, mx.array]:
    """k distinct experts a token, and their scores."""
    indices = np.argsort(rng.random((*batch, count)), axis=-1)[..., :k].astype(np.uint32)
    return {"indices": mx.array(indices), "scores": mx.array(rng.dirichlet(np.ones(k), batch).astype(np.float32))}


@cache
def case(
    shape: Shape, dtype: mx.Dtype, scales: mx.Dtype = F32, bits: int = 4, group: int = 32, shared: str = ""
) -> Case:
    tokens, count, k, hidden, inner = shape
    rng = np.random.default_rng([*shape, bits, group])
    form: dict[str, Any] = {"bits": bits, "group": group, "dtype": scales}
    arguments: dict[str, Any] = {"x": normal(rng, tokens, hidden, dtype=dtype)}
    arguments |= routed(rng, (tokens,), count, k)
    arguments |= experts(rng, count, hidden, inner, **form)
    if shared:
        arguments["shared"] = shared_expert(rng, hidden, inner, **form)
    if shared == "gated":
        arguments["shared_gate"] = quantized(rng, 1, hidden, **form)
    return Case("moe_experts", **arguments)


SHAPES: list[Shape] = [
    (0, 4, 2, 64, 32),
    (1, 1, 1, 32, 32),
    (1, 16, 10, 512, 96),
    (2, 5, 5, 96, 160),
    (3, 8, 2, 160, 32),
    (7, 3, 1, 1088, 64),
    (8, 4, 4, 64, 1088),
    (9, 16, 8, 160, 96),
    (17, 6, 3, 96, 512),
    (64, 40, 4, 128, 96),
    (205, 8, 2, 96, 64),
]


@pytest.mark.parametrize("shared", ["", "plain", "gated"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(backend: Backend, shape: Shape, dtype: mx.Dtype, shared: str) -> None:
    case(shape, dtype, shared=shared).check(backend)


@pytest.mark.parametrize("tokens", [1, 30])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("scales", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_formats(backend: Backend, dtype: mx.Dtype, scales: mx.Dtype, bits: int, group: int, tokens: int) -> None:
    case((tokens, 4, 2, 128, 256), dtype, scales, bits, group, "gated").check(backend)


@pytest.mark.parametrize("tokens", [1, 2, 40])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_every_matrix_in_its_own_format(backend: Backend, dtype: mx.Dtype, tokens: int) -> None:
    """gate and up agree; down, the shared expert's three and its gate need not, nor in scales' dtype."""
    rng = np.random.default_rng([1, tokens])
    gate_up: dict[str, Any] = {"bits": 8, "group": 32, "dtype": BF16}
    Case(
        "moe_experts",
        x=normal(rng, tokens, 128, dtype=dtype),
        **routed(rng, (tokens,), 5, 2),
        gate=quantized(rng, 5, 64, 128, **gate_up),
        up=quantized(rng, 5, 64, 128, **gate_up),
        down=quantized(rng, 5, 128, 64, bits=4, group=64, dtype=F16),
        shared=(
            quantized(rng, 192, 128, bits=4, group=128),
            quantized(rng, 192, 128, bits=4, group=128),
            quantized(rng, 128, 192, bits=8, group=32, dtype=BF16),
        ),
        shared_gate=quantized(rng, 1, 128, bits=8, group=64, dtype=F16),
    ).check(backend)


@given(data=st.data())
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_any_shape(backend: Backend, data: st.DataObject) -> None:
    group = data.draw(st.sampled_from([32, 64]), "group")
    count = data.draw(st.integers(1, 12), "E")
    shape = (
        data.draw(st.integers(0, 40), "tokens"),
        count,
        data.draw(st.integers(1, count), "k"),
        group * data.draw(st.integers(1, 6), "H / group"),
        group * data.draw(st.integers(1, 6), "I / group"),
    )
    dtypes = data.draw(st.sampled_from(FLOATS), "x"), data.draw(st.sampled_from(FLOATS), "scales")
    bits = data.draw(st.sampled_from([4, 8]), "bits")
    shared = data.draw(st.sampled_from(["", "plain", "gated"]), "shared")
    case.__wrapped__(shape, *dtypes, bits, group, shared).check(backend)


@pytest.mark.parametrize("tokens", [1, 9, 100])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_uneven_routing(backend: Backend, dtype: mx.Dtype, tokens: int) -> None:
    """One expert takes every token, some take none, and the last is named twice in each row."""
    rng = np.random.default_rng([2, tokens])
    arguments: dict[str, Any] = {**routed(rng, (tokens,), 12, 4), **experts(rng, 12, 96, 64, group=32)}
    indices = np.tile(np.array([5, 11, 0, 11], np.uint32), (tokens, 1))
    indices[::7, 2] = 3
    arguments["indices"] = mx.array(indices)
    Case("moe_experts", x=normal(rng, tokens, 96, dtype=dtype), **arguments).check(backend)


@pytest.mark.parametrize("indices", [mx.int8, mx.uint8, mx.int16, mx.uint16, mx.int32, mx.int64, mx.uint64])
@pytest.mark.parametrize("scores", FLOATS)
def test_dtypes_of_indices_and_scores(backend: Backend, indices: mx.Dtype, scores: mx.Dtype) -> None:
    rng = np.random.default_rng(3)
    arguments: dict[str, Any] = {**routed(rng, (6,), 7, 3), **experts(rng, 7, 64, 32, group=32)}
    arguments["indices"] = arguments["indices"].astype(indices)
    arguments["scores"] = arguments["scores"].astype(scores)
    Case("moe_experts", x=normal(rng, 6, 64), **arguments).check(backend)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("batch", [(), (0,), (2, 0), (1, 1), (2, 3), (2, 1, 4)])
def test_batch_shapes(backend: Backend, batch: tuple[int, ...], dtype: mx.Dtype) -> None:
    rng = np.random.default_rng(4)
    arguments: dict[str, Any] = {**routed(rng, batch, 5, 2), **experts(rng, 5, 64, 32, group=32)}
    (y,) = Case("moe_experts", x=normal(rng, *batch, 64, dtype=dtype), **arguments).check(backend)
    assert y.shape == (*batch, 64)


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_more_rows_than_a_short_counts(backend: Backend, dtype: mx.Dtype) -> None:
    """33,600 rows, which also overflow MLX's own 32,768."""
    case((4_200, 16, 8, 32, 32), dtype).check(backend)


@pytest.mark.parametrize("tokens", [1, 20])
def test_scores_need_not_sum_to_one(backend: Backend, tokens: int) -> None:
    rng = np.random.default_rng(5)
    arguments: dict[str, Any] = {**routed(rng, (tokens,), 6, 3), **experts(rng, 6, 64, 96, group=32)}
    arguments["scores"] = normal(rng, tokens, 3, scale=5.0)
    Case("moe_experts", x=normal(rng, tokens, 64), **arguments).check(backend)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("tokens", [1, 24])
def test_silu_at_its_ends(backend: Backend, tokens: int, dtype: mx.Dtype) -> None:
    """Gate activations of hundreds, of either sign, neither overflow nor turn into NaN."""
    rng = np.random.default_rng(6)
    arguments: dict[str, Any] = {**routed(rng, (tokens,), 4, 2), **experts(rng, 4, 64, 32, group=32)}
    Case("moe_experts", x=normal(rng, tokens, 64, dtype=dtype, scale=60.0), **arguments).check(backend)


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("tokens", [1, 20])
def test_denormals(backend: Backend, tokens: int, dtype: mx.Dtype) -> None:
    rng = np.random.default_rng(7)
    arguments: dict[str, Any] = {**routed(rng, (tokens,), 4, 2), **experts(rng, 4, 64, 32, group=32)}
    x = normal(rng, tokens, 64, dtype=dtype, scale=2.0**-130)
    Case("moe_experts", x=x, **arguments).check(backend, tiny=2.0**-100)


@pytest.mark.parametrize("tokens", [1, 24])
def test_nan_stays_in_its_row(backend: Backend, tokens: int) -> None:
    arguments = case((tokens + 2, 4, 2, 64, 32), F32).arguments
    (clean,) = backend.run("moe_experts", **arguments)
    x = mx.array(arguments["x"])
    x[0, 3] = float("nan")
    scores = mx.array(arguments["scores"])
    scores[1, 1] = float("nan")
    (y,) = backend.run("moe_experts", **{**arguments, "x": x, "scores": scores})
    assert mx.isnan(y[:2]).all()
    assert mx.array_equal(y[2:], clean[2:])


@pytest.mark.parametrize(
    ("dtype", "value", "tokens"),
    [
        ("int32", -1, 1),
        ("uint32", 4, 50),
        ("uint64", 2**63, 3),
    ],
)
def test_index_out_of_range(backend: Backend, dtype: str, value: int, tokens: int) -> None:
    """Raises at evaluation, names the experts, and leaves everything in order."""
    in_a_process_of_its_own(out_of_range, backend, dtype, value, tokens)


def out_of_range(backend: Backend, dtype: str, value: int, tokens: int) -> None:
    """The test's body."""
    good = case((tokens, 4, 2, 64, 32), F32)
    indices = np.array(good.arguments["indices"]).astype(dtype)
    indices[-1, 1] = value
    with pytest.raises(RuntimeError, match=r"moe_experts.*Expected 0 to 3"):
        backend.run("moe_experts", **{**good.arguments, "indices": mx.array(indices)})
    good.check(backend)


def test_index_out_of_range_raises_late() -> None:
    """Building the graph does not look at the indices."""
    in_a_process_of_its_own(out_of_range_raises_late)


def out_of_range_raises_late() -> None:
    """The test's body."""
    arguments = case((3, 4, 2, 64, 32), F32).arguments
    y = ops.moe_experts(**{**arguments, "indices": arguments["indices"] + 4})
    with pytest.raises(RuntimeError, match="moe_experts"):
        mx.eval(y)


def in_a_process_of_its_own(body: Callable[..., None], *arguments: Any) -> None:
    """Run a test's body in which a task of MLX's fails: each such failure may cost MLX 0.32.4 a count of its tasks, for
    want of which a later evaluation waits for ever (docs/verification.md)."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        pool.submit(body, *arguments).result()


def bad_calls() -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(8)
    good = case((3, 4, 2, 128, 64), F32, group=32, shared="gated").arguments
    x, indices, scores = good["x"], good["indices"], good["scores"]
    gate, up, down = experts(rng, 4, 128, 64, group=32).values()
    shared = shared_expert(rng, 128, 64, group=32)
    two_bits = Quantized(*mx.quantize(normal(rng, 4, 64, 128), group_size=32, bits=2))
    return {
        "x without axes": {"x": mx.array(1.0), "indices": indices[0], "scores": scores[0]},
        "x of integers": {"x": x.astype(mx.int32)},
        "x of another width": {"x": x[:, :96]},
        "x of other rows": {"x": x[:2]},
        "x of another ndim": {"x": x[None]},
        "indices of reals": {"indices": indices.astype(F32)},
        "indices of bools": {"indices": indices.astype(mx.bool_)},
        "more indices than scores": {"scores": scores[:, :1]},
        "scores of integers": {"scores": scores.astype(mx.int32)},
        "an expert stack of two axes": {"gate": Quantized(*(part[0] for part in gate))},
        "up of other bits": {"up": quantized(rng, 4, 64, 128, group=32, bits=8)},
        "up of another group size": {"up": quantized(rng, 4, 64, 128, group=64)},
        "up of another inner width": {"up": quantized(rng, 4, 96, 128, group=32)},
        "up of fewer experts": {"up": quantized(rng, 3, 64, 128, group=32)},
        "down of fewer experts": {"down": quantized(rng, 3, 128, 64, group=32)},
        "down of another inner width": {"down": quantized(rng, 4, 128, 96, group=32)},
        "down of another width": {"down": quantized(rng, 4, 96, 64, group=32)},
        "2 bits": {"gate": two_bits, "up": two_bits},
        "signed weights": {"gate": gate._replace(weight=gate.weight.astype(mx.int32))},
        "integer scales": {"down": down._replace(scales=down.scales.astype(mx.int32))},
        "biases of another shape": {"down": down._replace(biases=down.biases[..., :1])},
        "a stacked shared expert": {"shared": (gate, up, down)},
        "shared gate and up apart": {"shared": (shared[0], quantized(rng, 96, 128, group=32), shared[2])},
        "shared down of another width": {"shared": (shared[0], shared[1], quantized(rng, 96, 64, group=32))},
        "a shared gate of two rows": {"shared_gate": quantized(rng, 2, 128, group=32)},
        "a shared gate alone": {"shared": None},
    }


@pytest.mark.parametrize("bad", bad_calls())
def test_bad_input(bad: str) -> None:
    good = case((3, 4, 2, 128, 64), F32, group=32, shared="gated").arguments
    with pytest.raises(ValueError, match="moe_experts"):
        ops.moe_experts(**{**good, **bad_calls()[bad]})
