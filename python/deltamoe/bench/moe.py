"""One mixture of experts, ours beside stock MLX's: what the simulator counts, and the bars that counts must meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deltamoe import _ext
from deltamoe.bench.report import Bar, bar, full_name, tokens_in_words
from deltamoe.bench.simulate import Array, Dispatched, mlx_metallib, run_plan, total
from deltamoe.bench.stock import moe as stock
from deltamoe.bench.stock.moe import Matrix
from deltamoe.errors import DeltamoeError
from deltamoe.synthetic import GEOMETRIES, Geometry

__all__ = ["Comparison", "Report", "run"]

DTYPE = "bfloat16"
BYTES = 2
FORMAT = (64, 4)
SHARED_GATE_FORMAT = (64, 8)
MOST_FOR_DECODE = 8
"""Tokens up to which the decode kernels run: csrc/plan/moe_experts.cpp."""
MOST_WEIGHTS = 40e6
"""That a decode run multiplies with, before matrices are cut to a fraction of their rows."""
PREFILL_COLUMNS, PREFILL_ROWS = 512, (64, 128)
"""What prefill cuts matrices to: columns with which MLX takes the kernels that it takes for the whole ones, and as many
rows of gate and up, and of down, as our widest threadgroup has."""
WEIGHTS = range(3, 24)
"""Inputs of moe_experts that are codes, scales and biases."""

MOST_DISPATCHES = 4
MOST_LINES = 1.03
LEAST_SAVED = {64: 1.6, 204: 3.5}
"""Stock's weight traffic beside ours, by tokens, for 512 experts of which each token has 10. Codes stand for weights:
stock's lanes load each scale four times, which is no traffic."""


@dataclass(frozen=True)
class Cut:
    """The part of each matrix that is run."""

    columns: tuple[int, int]
    """Of gate and up, and of down."""
    rows: tuple[int, int]
    parts: tuple[int, int]
    """How many there are in the whole."""


@dataclass(frozen=True)
class Comparison:
    """Both sides at one number of tokens."""

    tokens: int
    cut: Cut
    weights: int
    """Bytes of codes, scales and biases of all experts that any token has, each once, whole."""
    pairs: int
    experts: int
    """Distinct ones."""
    our_dispatches: int
    """With the gate matmul."""
    stock_dispatches: int
    """At least."""
    stock_is_grouped: bool
    ours: tuple[Dispatched, ...]
    stock: tuple[Dispatched, ...]
    """Its matrix products, without gate and shared_expert_gate."""


@dataclass(frozen=True)
class Report:
    """All counts for a geometry."""

    geometry: str
    metallib: str | None
    comparisons: tuple[Comparison, ...]
    bars: tuple[Bar, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with sums."""
        report = asdict(self) | {"unit": "counts, not times"}
        for each, comparison in zip(report["comparisons"], self.comparisons, strict=True):
            each["total"] = {"ours": asdict(total(comparison.ours)), "stock": asdict(total(comparison.stock))}
        return report


def run(geometry: str, tokens: Sequence[int], step: Callable[[str], object] = lambda text: None) -> Report:
    """Count both sides.

    Args:
        geometry: a key of ``GEOMETRIES`` or the beginning of one.
        step: told what comes next.

    Raises:
        DeltamoeError: an unknown geometry, or no tokens.
    """
    name = full_name(geometry)
    if not tokens or min(tokens) < 1:
        raise DeltamoeError("tokens must be one or more numbers of 1 or more, as in 1,8,64")
    shape = GEOMETRIES[name]
    metallib = mlx_metallib()
    comparisons = tuple(_compare(shape, n, metallib, step) for n in tokens)
    bars = [bar for each in comparisons for bar in _bars(shape, each, metallib is not None)]
    return Report(name, str(metallib) if metallib else None, comparisons, tuple(bars))


# ---- one number of tokens ----


@dataclass(frozen=True)
class _Inputs:
    """Of the routed experts and the shared one."""

    x: Array
    indices: Array
    matrices: dict[str, Matrix]


def _compare(shape: Geometry, tokens: int, metallib: Path | None, step: Callable[[str], object]) -> Comparison:
    rng = np.random.default_rng(tokens)
    experts, k = shape.num_experts, shape.num_experts_per_tok
    cut = _cut(shape, tokens)
    indices = np.stack([rng.choice(experts, k, replace=False) for _ in range(tokens)]).astype(np.uint32)
    distinct = np.unique(indices)
    stored = experts
    if tokens <= MOST_FOR_DECODE:  # then the plan does not depend on how many experts there are
        indices = np.searchsorted(distinct, indices).astype(np.uint32)
        stored = len(distinct)
    ours, theirs = [_router(rng, shape, tokens)], []
    for side in (0, 1):
        inputs = _inputs(rng, shape, tokens, cut, indices, stored, side)
        what = f"{tokens_in_words(tokens)}, {('gate and up', 'down')[side]}"
        step(f"{what}: ours")
        ours += _ours(shape, cut, inputs, side)
        step(f"{what}: stock")
        theirs += [replace(d, parts=cut.parts[side]) for d in _stock(shape, inputs, side, metallib)]
    return Comparison(
        tokens=tokens,
        cut=cut,
        weights=_bytes_of_weights(shape, len(distinct)),
        pairs=indices.size,
        experts=len(distinct),
        our_dispatches=1 + len(ours),
        stock_dispatches=sum(stock.BLOCK.values()),
        stock_is_grouped=stock.is_grouped(indices.size, experts),
        ours=tuple(ours),
        stock=tuple(theirs),
    )


def _bytes_of_weights(shape: Geometry, experts: int) -> int:
    def matrix(weights: int, group: int, bits: int) -> int:
        return weights * bits // 8 + 2 * weights // group * BYTES

    rows = experts * shape.moe_intermediate_size + shape.shared_expert_intermediate_size
    return 3 * matrix(rows * shape.hidden_size, *FORMAT) + matrix(shape.hidden_size, *SHARED_GATE_FORMAT)


def _cut(shape: Geometry, tokens: int) -> Cut:
    hidden, inner = shape.hidden_size, shape.moe_intermediate_size
    if tokens > MOST_FOR_DECODE:
        columns = min(hidden, PREFILL_COLUMNS), min(inner, PREFILL_COLUMNS)
        rows = min(inner, PREFILL_ROWS[0]), min(hidden, PREFILL_ROWS[1])
    else:
        multiplied = tokens * (shape.num_experts_per_tok + 1) * 3 * hidden * inner
        n = 1
        while multiplied / n > MOST_WEIGHTS and inner % (128 * n) == 0 and hidden % (128 * n) == 0:
            n *= 2
        columns, rows = (hidden, inner), (inner // n, hidden // n)
    parts = tuple(hidden * inner // (n * k) for n, k in zip(rows, columns, strict=True))
    return Cut(columns, rows, (parts[0], parts[1]))


def _inputs(
    rng: np.random.Generator, shape: Geometry, tokens: int, cut: Cut, indices: Array, stored: int, side: int
) -> _Inputs:
    """For gate and up (side 0) or for down (1): a cut may leave them no one model."""
    hidden, inner = (cut.rows[1], cut.columns[1]) if side else (cut.columns[0], cut.rows[0])
    wide = shape.shared_expert_intermediate_size // shape.moe_intermediate_size * inner
    sizes = {
        "gate": (stored, inner, hidden),
        "up": (stored, inner, hidden),
        "down": (stored, hidden, inner),
        "shared_gate": (wide, hidden),
        "shared_up": (wide, hidden),
        "shared_down": (hidden, wide),
    }
    matrices = {name: _matrix(rng, size, FORMAT) for name, size in sizes.items()}
    matrices["shared_scale"] = _matrix(rng, (1, hidden), SHARED_GATE_FORMAT)
    return _Inputs(_bfloat16(rng.standard_normal((tokens, hidden))), indices, matrices)


def _router(rng: np.random.Generator, shape: Geometry, tokens: int) -> Dispatched:
    experts, k = shape.num_experts, shape.num_experts_per_tok
    plan = _ext.plan_moe_router(tokens=tokens, experts=experts, k=k, dtype=DTYPE)
    assert plan is not None
    outputs = [np.empty((tokens, k), np.uint32), np.empty((tokens, k), np.float32)]
    logits = _bfloat16(rng.standard_normal((tokens, experts)))
    (dispatched,) = run_plan(plan, {0: logits}, outputs, weights=range(0))
    return dispatched


def _ours(shape: Geometry, cut: Cut, inputs: _Inputs, side: int) -> list[Dispatched]:
    """The dispatches of one side; what the other side would have left for them is zeros."""
    w = inputs.matrices
    tokens, hidden = inputs.x.shape
    plan = _ext.plan_moe_experts(
        tokens=tokens,
        hidden=hidden,
        intermediate=w["gate"].rows,
        experts=len(w["gate"].codes),
        k=inputs.indices.shape[1],
        dtype=DTYPE,
        gate_up=FORMAT,
        down=FORMAT,
        shared_intermediate=w["shared_gate"].rows,
        shared=(FORMAT, FORMAT),
        shared_gate=SHARED_GATE_FORMAT,
    )
    assert plan is not None
    scores = np.full(inputs.indices.shape, 1 / inputs.indices.shape[1], np.float32)
    arrays = [inputs.x, inputs.indices, scores, *(part for m in w.values() for part in (m.codes, m.scales, m.biases))]
    output = np.empty((tokens, hidden), np.uint16)

    def wanted(function: str) -> bool:
        return ("gate_up" in function) == (side == 0) or "worklist" in function

    done = []
    for d in run_plan(plan, dict(enumerate(arrays)), [output], weights=WEIGHTS, wanted=wanted):
        if "combine" in d.kernel:
            done.append(replace(d, parts=shape.hidden_size // hidden))
        elif "worklist" not in d.kernel:
            done.append(replace(d, parts=cut.parts[side]))
        elif side == 0:
            done.append(d)
    return done


def _stock(shape: Geometry, inputs: _Inputs, side: int, metallib: Path | None) -> list[Dispatched]:
    w = inputs.matrices
    tokens, k = inputs.indices.shape
    pairs = np.arange(tokens * k, dtype=np.uint32)
    rhs = inputs.indices.reshape(-1)
    if stock.is_sorted(len(pairs)):
        order = np.argsort(rhs, kind="stable")
        rhs, of_token = rhs[order], order // k
    else:
        of_token = pairs // k
    if side == 1:
        h = np.zeros((len(pairs), w["down"].columns), np.uint16)
        shared_h = np.zeros((tokens, w["shared_down"].columns), np.uint16)
        routed = stock.gather_qmm(w["down"], h, pairs, rhs, shape.num_experts)
        return [routed.run(metallib), stock.qmm(w["shared_down"], shared_h).run(metallib)]
    x, lhs = inputs.x, of_token.astype(np.uint32)
    if stock.is_sorted(len(pairs)):  # x is gathered first
        x, lhs = x[lhs], pairs
    gate = stock.gather_qmm(w["gate"], x, lhs, rhs, shape.num_experts).run(metallib)
    shared_gate = stock.qmm(w["shared_gate"], inputs.x).run(metallib)
    return [gate, gate, shared_gate, shared_gate]  # up does what gate does: counts depend on no weight


def _matrix(rng: np.random.Generator, shape: tuple[int, ...], form: tuple[int, int]) -> Matrix:
    group, bits = form
    *rows, columns = shape
    codes = rng.integers(0, 2**32, (*rows, columns * bits // 32), np.uint32)
    scales, biases = (_bfloat16(rng.standard_normal((*rows, columns // group), np.float32)) for _ in range(2))
    return Matrix(codes, scales, biases, group, bits)


def _bfloat16(values: Array) -> Array:
    """The bits, cut off and not rounded."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


# ---- bars ----


def _bars(shape: Geometry, each: Comparison, counts_apples_code: bool) -> Iterator[Bar]:
    ours, theirs = total(each.ours), total(each.stock)
    case = tokens_in_words(each.tokens)

    if each.tokens <= MOST_FOR_DECODE:
        per_group = max(d.counts.barriers / d.threadgroups for d in each.ours)
        yield bar(case, "dispatches besides the gate matmul", each.our_dispatches - 1, f"<= {MOST_DISPATCHES}")
        yield bar(case, "distinct cache lines / bytes of weights", ours.line_bytes / each.weights, f"<= {MOST_LINES}")
        yield bar(
            case, "bytes loaded / stock's", ours.bytes_loaded / theirs.bytes_loaded, "<= 1", judged=counts_apples_code
        )
        yield bar(case, "barriers that a threadgroup meets: none in a loop", per_group, "<= 1")
    elif each.stock_is_grouped:
        for name, what in (
            ("weight_bytes", "bytes loaded of weights"),
            ("bytes_loaded", "bytes loaded"),
            ("matrix_ops", "matrix operations"),
        ):
            figure = getattr(ours, name) / getattr(theirs, name)
            yield bar(case, f"{what} / stock's", figure, "<= 1", judged=counts_apples_code or name == "matrix_ops")
    else:
        same = (shape.num_experts, shape.num_experts_per_tok) == (512, 10)
        limit = LEAST_SAVED.get(each.tokens, 1.0) if same else 1.0
        figure = theirs.code_bytes / ours.code_bytes
        yield bar(case, "stock's bytes of codes loaded / ours", figure, f">= {limit:g}", judged=counts_apples_code)
