"""A DeltaNet layer between its projections, ours beside stock's: what the simulator counts, and the bars to be met."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from deltamoe import _ext
from deltamoe.bench.report import Bar, bar, full_name, tokens_in_words
from deltamoe.bench.simulate import Array, Counts, Dispatched, mlx_metallib, run_plan, total
from deltamoe.bench.stock import gated_delta as stock
from deltamoe.errors import DeltamoeError
from deltamoe.synthetic import GEOMETRIES, Geometry

__all__ = ["Report", "Side", "minimum", "run"]

DTYPE = mx.bfloat16
TAPS = 4
CHUNKS = (16, 32, 64)
SEQUENTIAL = 0
"""In place of a chunk."""
TILE = 8
"""Rows and columns of a matrix operation."""

CORE, MLX_LM = "MLX core", "mlx-lm"

MOST_DISPATCHES = 2
MOST_MATRIX_OPS = 1.15
"""Of the algorithm's minimum."""


@dataclass(frozen=True)
class Side:
    """One way to do it."""

    name: str
    dispatches: tuple[Dispatched, ...]
    chunk: int | None = None
    """Ours: of how many tokens, or 0."""

    @property
    def counts(self) -> Counts:
        """Of the whole layer."""
        return total(self.dispatches)


@dataclass(frozen=True)
class Report:
    """All counts for a geometry."""

    geometry: str
    tokens: int
    metallib: str | None
    layer: dict[str, int]
    """Dispatches at one token, with the projections."""
    decode: tuple[Side, ...]
    """Ours and mlx-lm's, at one token."""
    prefill: tuple[Side, ...]
    bars: tuple[Bar, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with sums."""
        report = asdict(self) | {"unit": "counts, not times"}
        for sides, each in ((report["decode"], self.decode), (report["prefill"], self.prefill)):
            for entry, side in zip(sides, each, strict=True):
                entry["total"] = asdict(side.counts)
        return report


def run(geometry: str, tokens: int, step: Callable[[str], object] = lambda text: None) -> Report:
    """Count both sides at one token and at ``tokens``.

    Args:
        geometry: a key of ``GEOMETRIES`` or the beginning of one.
        step: told what comes next.

    Raises:
        DeltamoeError: an unknown geometry, or too few tokens for prefill.
    """
    name = full_name(geometry)
    if tokens <= stock.CORE_CHUNK:
        raise DeltamoeError(f"{tokens} tokens: prefill begins above {stock.CORE_CHUNK}, where stock takes chunks")
    metallib = mlx_metallib()
    decode = _decode(GEOMETRIES[name], step)
    prefill = _prefill(GEOMETRIES[name], tokens, metallib, step)
    layer = {"ours": stock.PROJECTIONS + len(decode[0].dispatches), "stock": sum(stock.LAYER.values())}
    bars = [*_decode_bars(GEOMETRIES[name], decode[0], layer)]
    bars += _prefill_bars(GEOMETRIES[name], tokens, prefill, metallib is not None)
    return Report(name, tokens, str(metallib) if metallib else None, layer, decode, prefill, tuple(bars))


def minimum(chunk: int, dk: int, dv: int, heads_per_key: int, tokens: int) -> dict[str, float]:
    """The fewest matrix operations of the chunked form per value head, each product made once.

    Of a matrix that is 0 above its diagonal, only tiles that are not all 0 count. Names are those of
    metal/gdn/chunked.h; what it inverts are single tiles, by substitution, without matrix operations.
    """
    n, d, e = chunk // TILE, dk // TILE, dv // TILE
    lower = n * (n + 1) // 2
    chunks = -(-tokens // chunk)
    return {
        "K K^T, Q K^T: once per key head": chunks * 2 * lower * d / heads_per_key,
        "K S, Q S, K^T X": chunks * 3 * n * d * e,
        "L X, P X": chunks * 2 * lower * e,
    }


# ---- one token ----


def _decode(shape: Geometry, step: Callable[[str], object]) -> tuple[Side, Side]:
    step("1 token: ours")
    ours = _ours(shape, 1, shape.linear_num_key_heads, None)
    step("1 token: mlx-lm")
    theirs = stock.mlx_lm(_stock_inputs(shape, 1, shape.linear_num_key_heads)).run()
    return Side("ours", tuple(ours)), Side(MLX_LM, (theirs,))


def _decode_bars(shape: Geometry, ours: Side, layer: dict[str, int]) -> Iterator[Bar]:
    case = tokens_in_words(1)
    besides = layer["ours"] - stock.PROJECTIONS
    yield bar(case, "dispatches besides the projections", besides, f"<= {MOST_DISPATCHES}")
    yield bar(case, "bytes of state loaded and stored / twice its size", state_bytes(ours) / _state(shape) / 2, "<= 1")


def state_bytes(side: Side) -> int:
    """Loaded of the state and stored to the new one."""
    loads = sum(n for d in side.dispatches for name, n in d.loaded.items() if name in ("state", "state_in"))
    return loads + sum(n for d in side.dispatches for name, n in d.stored.items() if name in ("new_state", "state_out"))


def _state(shape: Geometry) -> int:
    return shape.linear_num_value_heads * shape.linear_key_head_dim * shape.linear_value_head_dim * 4


# ---- many tokens ----


def _prefill(shape: Geometry, tokens: int, metallib: Path | None, step: Callable[[str], object]) -> tuple[Side, ...]:
    """Ours and mlx-lm's with one key head and its value heads: the others do the same in rows of their own."""
    heads = shape.linear_num_key_heads
    sides = []
    for chunk in (SEQUENTIAL, *CHUNKS):
        name = f"ours, C = {chunk}" if chunk else "ours, sequential"
        step(f"{tokens_in_words(tokens)}: {name}")
        done = _ours(shape, tokens, 1, chunk)
        sides.append(Side(name, tuple(replace(d, parts=heads) for d in done), chunk))
    if stock.core_takes(heads, shape.linear_num_value_heads, shape.linear_key_head_dim, shape.linear_value_head_dim):
        step(f"{tokens_in_words(tokens)}: MLX core")
        sides.append(Side(CORE, (stock.core(_stock_inputs(shape, tokens, heads)).run(metallib),)))
    step(f"{tokens_in_words(tokens)}: mlx-lm")
    sides.append(Side(MLX_LM, (replace(stock.mlx_lm(_stock_inputs(shape, tokens, 1)).run(), parts=heads),)))
    return tuple(sides)


def _prefill_bars(shape: Geometry, tokens: int, sides: tuple[Side, ...], counts_apples_code: bool) -> Iterator[Bar]:
    for side in sides:
        if side.chunk is None:
            continue
        case = f"{tokens_in_words(tokens)}: {side.name}"
        if side.chunk:
            yield from _bars_of_chunks(shape, tokens, side, side.chunk, case)
        for theirs in sides:
            if theirs.chunk is not None:
                continue
            judged = counts_apples_code or theirs.name != CORE
            if side.chunk and theirs.counts.matrix_ops:
                figure = side.counts.matrix_ops / theirs.counts.matrix_ops
                yield bar(case, f"matrix operations / {theirs.name}'s", figure, "< 1")
            figure = device_bytes(side) / device_bytes(theirs)
            yield bar(case, f"bytes loaded and stored / {theirs.name}'s", figure, "< 1", judged=judged)


def _bars_of_chunks(shape: Geometry, tokens: int, side: Side, chunk: int, case: str) -> Iterator[Bar]:
    heads = shape.linear_num_value_heads
    per_key = heads // shape.linear_num_key_heads
    gram, *rest = minimum(chunk, shape.linear_key_head_dim, shape.linear_value_head_dim, per_key, tokens).values()
    blocks = 4 * heads * -(-tokens // chunk) * chunk * (chunk + 10)  # metal/gdn/chunked.h
    (prepare,) = (d for d in side.dispatches if "prepare" in d.kernel)
    figure = side.counts.matrix_ops / heads / (gram + sum(rest))
    yield bar(case, "matrix operations / the algorithm's", figure, f"<= {MOST_MATRIX_OPS}")
    figure = total([prepare]).matrix_ops / heads / gram
    yield bar(case, "those of Gram matrices / once per key head and chunk", figure, "<= 1")
    figure = prepare.parts * sum(prepare.stored.values()) / blocks
    yield bar(case, "inverses, L and P stored, in bytes / once per value head and chunk", figure, "<= 1")


def device_bytes(side: Side) -> int:
    """Loaded and stored, by all lanes."""
    return side.counts.bytes_loaded + side.counts.bytes_stored


# ---- inputs ----


def _ours(shape: Geometry, tokens: int, k_heads: int, chunk: int | None) -> list[Dispatched]:
    """The block, from qkv, z, a and b to the gated normalisation, with states in and out."""
    rng = np.random.default_rng(tokens)
    v_heads = k_heads * shape.linear_num_value_heads // shape.linear_num_key_heads
    dk, dv = shape.linear_key_head_dim, shape.linear_value_head_dim
    channels = 2 * k_heads * dk + v_heads * dv
    plan = _ext.plan_gated_delta(
        batch=1,
        tokens=tokens,
        k_heads=k_heads,
        v_heads=v_heads,
        dk=dk,
        dv=dv,
        dtype="bfloat16",
        A_log="float32",
        taps=TAPS,
        state=True,
        conv_state=True,
        chunk=chunk,
    )
    assert plan is not None
    arrays = [
        _normal(rng, 1, tokens, channels),
        _normal(rng, 1, tokens, v_heads, dv),
        _normal(rng, 1, tokens, v_heads),
        _normal(rng, 1, tokens, v_heads),
        _normal(rng, channels, TAPS, 1),
        _normal(rng, v_heads, dtype=mx.float32),
        _normal(rng, v_heads),
        _normal(rng, dv),
        _normal(rng, 1, TAPS - 1, channels),
        _normal(rng, 1, v_heads, dv, dk, dtype=mx.float32),
    ]
    inputs = {i: stock.bits(array) for i, array in enumerate(arrays)}
    outputs: list[Array] = [np.empty_like(inputs[i]) for i in (1, 8, 9)]  # y is as z
    return run_plan(plan, inputs, outputs)


def _stock_inputs(shape: Geometry, tokens: int, k_heads: int) -> stock.Inputs:
    rng = np.random.default_rng(tokens)
    v_heads = k_heads * shape.linear_num_value_heads // shape.linear_num_key_heads
    dk, dv = shape.linear_key_head_dim, shape.linear_value_head_dim
    q, k = (_normal(rng, 1, tokens, k_heads, dk, scale=dk**-0.5) for _ in range(2))
    v = _normal(rng, 1, tokens, v_heads, dv)
    a, b = (_normal(rng, 1, tokens, v_heads) for _ in range(2))
    g, beta = stock.gates(a, b, _normal(rng, v_heads, dtype=mx.float32), _normal(rng, v_heads))
    return stock.Inputs(q, k, v, g, beta, _normal(rng, 1, v_heads, dv, dk, dtype=mx.float32))


def _normal(rng: np.random.Generator, *shape: int, scale: float = 1.0, dtype: mx.Dtype = DTYPE) -> mx.array:
    return mx.array((scale * rng.standard_normal(shape)).astype(np.float32)).astype(dtype)
