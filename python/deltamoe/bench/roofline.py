"""Tokens per second on Apple GPUs, predicted. Nothing here is measured by us, nor on any Apple GPU by this project.

    time of a token = sum over classes of kernels of max(bytes / bandwidth, operations / peak)
                      + dispatches x cost of a dispatch + commits x cost of a commit

Stock mlx-lm and ours differ by what is counted: dispatches, bytes, commits. That ours has fewer is counted
(``python -m deltamoe.bench counts moe`` and ``counts gdn``); what each costs is others' measurement, named beside the
constant; whether our kernels stream as fast as stock's is not known to anyone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from deltamoe.synthetic import BITS, FULL_ATTENTION_INTERVAL, GEOMETRIES, GROUP_SIZE, Geometry

__all__ = ["Gpu", "Prediction", "Report", "Work", "commits", "run", "show", "work"]

Side = Literal["stock", "ours"]
SIDES: tuple[Side, Side] = ("stock", "ours")

WARNING = (
    "A PREDICTION. No figure of this was measured by this project, none of our kernels has ever run on an Apple GPU. "
    "Counts are ours, costs are others' (each named in roofline.py), and the model is as good as the check says."
)

# ---- what a dispatch and a commit cost ----

DISPATCH = {"usual": 4.0e-6, "least": 2.3e-6}
"""Seconds. Usual: what a launch saved has earned (xwen's ledger; ferrox#149 found 5.2 on the GPU). Least: a chain of
3,200 tiny dependent kernels takes 7.7 ms with 200 to a command buffer (mlx#4521, M3 Ultra), less 16 boundaries."""
COMMIT = 20e-6
"""Seconds of GPU time for each command buffer (mlx#4521, M3 Ultra). M1 Ultra looks five times worse: vllm-metal#637."""

# ---- GPUs ----

STREAMED = {"M3 Ultra": 692.0, "M5 Max": 551.0}
"""GB/s that a kernel reading a large array has reached: omlx#2238; M5 Max: middle of 537 to 565."""
USUAL_SHARE = 692 / 819
"""Of the bandwidth that Apple states, for GPUs of which no measurement was found: the lower of the two above."""
USABLE_MEMORY = 0.75
"""What macOS lets a GPU have of the memory, unless it is told otherwise."""


@dataclass(frozen=True)
class Gpu:
    """An Apple GPU: bandwidth in GB/s and memory in GB as Apple states them, the most that is sold."""

    name: str
    bandwidth: float
    memory: float
    tflops: float | None = None
    """FP32; None where no source was found, and then no limit of arithmetic is known."""
    matrix_tflops: float | None = None
    """FP16 on matrix units, measured."""

    @property
    def streamed(self) -> float:
        """GB/s, measured or by the usual share."""
        return STREAMED.get(self.name, USUAL_SHARE * self.bandwidth)

    @property
    def budget(self) -> tuple[int, int]:
        """Dispatches and millions (2^20) of elements after which MLX commits: Device::Device in its device.cpp.

        By the last letter of the architecture: g has 40 and 40, s and d have 50 and 50. A base chip is g; an M4 Pro has
        been seen to be s, whatever MLX's comment there says.
        """
        return (50, 50) if " " in self.name else (40, 40)


GPUS = (
    Gpu("M1", 68, 16, 2.6),
    Gpu("M1 Pro", 205, 32, 5.3),
    Gpu("M1 Max", 410, 64, 10.6),
    Gpu("M1 Ultra", 800, 128, 21.2),
    Gpu("M2", 102, 24, 3.6),
    Gpu("M2 Pro", 200, 32, 6.8),
    Gpu("M2 Max", 400, 96, 13.6),
    Gpu("M2 Ultra", 800, 192, 27),
    Gpu("M3", 102, 24),
    Gpu("M3 Pro", 153, 36),
    Gpu("M3 Max", 410, 128),
    Gpu("M3 Ultra", 819, 512),
    Gpu("M4", 120, 32),
    Gpu("M4 Pro", 273, 64),
    Gpu("M4 Max 32-core", 410, 36),
    Gpu("M4 Max", 546, 128),
    Gpu("M5", 153, 32),
    Gpu("M5 Pro", 307, 64),
    Gpu("M5 Max", 614, 128, 18, matrix_tflops=52.7),
)
"""Bandwidth, memory: Apple's technical specifications. TFLOPS: philipturner/metal-benchmarks; M5 Max: estimated, and
the lower of two measurements of its matrix units (mlx#3211)."""

# ---- what is dispatched for a token ----

MOE: Mapping[Side, int] = {"stock": 23, "ours": 4}
"""``counts moe``: a block of one token, with the gate matmul."""
DELTANET: Mapping[Side, int] = {"stock": 19, "ours": 6}
"""``counts gdn``: a layer at one token, with the projections."""
LINES: Mapping[Side, float] = {"stock": 1.003, "ours": 1.003}
"""``counts moe``: cache lines read / bytes of the experts' weights; at most 1.0039 on each side, in each geometry."""
STATE: Mapping[Side, float] = {"stock": 2.0, "ours": 2.0}
"""``counts gdn``: bytes of state loaded and stored / its size."""
ATTENTION = 14
NORMS_AND_RESIDUALS = 4
"""Of a layer. These two and HEAD are mlx-lm's on both sides."""
HEAD = 10
"""Embedding, last norm, lm_head, sampling."""

GATE_BITS = 8
HALF = 2
"""Bytes of a bfloat16."""
TAPS = 4


@dataclass(frozen=True)
class Work:
    """What one class of kernels does for a token."""

    bytes: float
    operations: float
    dispatches: int


def quantised(weights: float, bits: int = BITS) -> float:
    """Bytes of so many weights with their scales and biases."""
    return weights * (bits / 8 + 2 * HALF / GROUP_SIZE)


def work(shape: Geometry, side: Side, *, bits: int = BITS, depth: int = 0) -> dict[str, Work]:
    """What a token takes, by class of kernels.

    Args:
        bits: of all quantised weights but the gates', which have 8.
        depth: tokens in the cache.
    """
    layers = shape.num_hidden_layers
    attention = layers // FULL_ATTENTION_INTERVAL
    linear = layers - attention
    parts = _weights(shape)
    state = shape.linear_num_value_heads * shape.linear_key_head_dim * shape.linear_value_head_dim
    channels = parts["qkv"] // shape.hidden_size
    conv = channels * HALF * (TAPS + 2 * (TAPS - 1))
    keys = 2 * shape.num_key_value_heads * shape.head_dim

    def of(weights: float, bits: int = bits) -> tuple[float, float]:
        return quantised(weights, bits), 2 * weights

    experts, expert_operations = of(parts["experts"] * (shape.num_experts_per_tok + parts["shared"] / parts["experts"]))
    gate, gate_operations = of(parts["gate"], GATE_BITS)
    deltanet, deltanet_operations = of(sum(parts[name] for name in ("qkv", "z", "ba", "out")))
    attended, attended_operations = of(parts["attention"])
    head, head_operations = of(shape.hidden_size * shape.vocab_size)
    return {
        "experts": Work(
            layers * (experts * LINES[side] + gate), layers * (expert_operations + gate_operations), layers * MOE[side]
        ),
        "DeltaNet": Work(
            linear * (deltanet + 4 * state * STATE[side] + conv),
            linear * (deltanet_operations + 7 * state),
            linear * DELTANET[side],
        ),
        "attention": Work(
            attention * (attended + depth * keys * HALF),
            attention * (attended_operations + 4 * depth * shape.num_attention_heads * shape.head_dim),
            attention * ATTENTION,
        ),
        "norms, residuals": Work(0, 0, layers * NORMS_AND_RESIDUALS),
        "head": Work(head, head_operations, HEAD),
    }


def _weights(shape: Geometry) -> dict[str, int]:
    """Weights of a layer's matrices; of one routed expert."""
    hidden, heads = shape.hidden_size, shape.num_attention_heads * shape.head_dim
    keys = shape.linear_num_key_heads * shape.linear_key_head_dim
    values = shape.linear_num_value_heads * shape.linear_value_head_dim
    return {
        "experts": 3 * hidden * shape.moe_intermediate_size,
        "shared": 3 * hidden * shape.shared_expert_intermediate_size + hidden,
        "gate": hidden * shape.num_experts,
        "qkv": hidden * (2 * keys + values),
        "z": hidden * values,
        "ba": hidden * 2 * shape.linear_num_value_heads,
        "out": hidden * values,
        "attention": hidden * (3 * heads + 2 * shape.num_key_value_heads * shape.head_dim),
    }


def size(shape: Geometry, bits: int = BITS) -> float:
    """Bytes of the whole model."""
    parts = _weights(shape)
    attention = shape.num_hidden_layers // FULL_ATTENTION_INTERVAL
    weights = shape.num_hidden_layers * (shape.num_experts * parts["experts"] + parts["shared"])
    weights += (shape.num_hidden_layers - attention) * sum(parts[name] for name in ("qkv", "z", "ba", "out"))
    weights += attention * parts["attention"] + 2 * shape.hidden_size * shape.vocab_size
    return quantised(weights, bits) + quantised(shape.num_hidden_layers * parts["gate"], GATE_BITS)


# ---- commits ----


def commits(shape: Geometry, side: Side, budget: tuple[int, int], bits: int = BITS) -> int:
    """Command buffers of a token, the last one included.

    MLX commits after the dispatch with which either number of the budget is exceeded. Each input is charged whole and
    in elements (data_size, not bytes): all experts of a stack, of which a few are read. Ours hands their weights over
    by set_buffer, which is not charged. Activations are left out: they are small.
    """
    most_dispatches, most_millions = budget
    count, dispatches, elements = 1, 0, 0.0
    for charged in _charges(shape, side, bits):
        dispatches, elements = dispatches + 1, elements + charged
        if dispatches > most_dispatches or math.floor(elements / 2**20) > most_millions:
            count, dispatches, elements = count + 1, 0, 0.0
    return count


def _charges(shape: Geometry, side: Side, bits: int) -> Iterator[float]:
    """Elements of the weights that each dispatch of a token names, in order."""
    parts = _weights(shape)

    def elements(weights: float, bits: int = bits) -> float:
        return weights * (bits / 32 + 2 / GROUP_SIZE)

    def block(dispatches: int, *weights: float) -> Iterator[float]:
        yield from weights
        yield from (0.0 for _ in range(dispatches - len(weights)))

    table = elements(shape.hidden_size * shape.vocab_size)
    yield table
    for layer in range(shape.num_hidden_layers):
        yield from block(NORMS_AND_RESIDUALS // 2)
        if (layer + 1) % FULL_ATTENTION_INTERVAL:
            yield from block(DELTANET[side] - 1, *(elements(parts[name]) for name in ("qkv", "z", "ba")))
            yield elements(parts["out"])
        else:
            heads = shape.num_attention_heads * shape.head_dim
            out = shape.hidden_size * heads
            yield from block(ATTENTION - 1, elements(parts["attention"] - out))
            yield elements(out)
        yield from block(NORMS_AND_RESIDUALS - NORMS_AND_RESIDUALS // 2)
        gate = elements(parts["gate"], GATE_BITS)
        if side == "ours":
            yield from block(MOE[side], gate)
        else:
            stack = elements(shape.num_experts * parts["experts"] / 3)
            shared = elements(parts["shared"] / 3)
            yield from block(MOE[side], gate, stack, stack, stack, shared, shared, shared)
    yield from block(HEAD - 2)
    yield table


# ---- prediction ----


@dataclass(frozen=True)
class Prediction:
    """Of one GPU, geometry and side."""

    gpu: str
    geometry: str
    side: Side
    dispatches: int
    commits: int
    bytes: float
    moving: float
    """Seconds that bytes, or arithmetic, take."""
    usual: float
    least: float
    """Tokens per second with the usual and with the least cost of a dispatch."""


def predict(
    gpu: Gpu, name: str, side: Side, shape: Geometry | None = None, *, bits: int = BITS, depth: int = 0
) -> Prediction:
    """Decoding, one sequence. ``shape``: where ``name`` is no key of ``GEOMETRIES``."""
    shape = shape or GEOMETRIES[name]
    classes = work(shape, side, bits=bits, depth=depth)
    moving = sum(seconds(each, gpu) for each in classes.values())
    dispatches = sum(each.dispatches for each in classes.values())
    buffers = commits(shape, side, gpu.budget, bits)
    rates = {name: 1 / (moving + dispatches * cost + buffers * COMMIT) for name, cost in DISPATCH.items()}
    total = sum(each.bytes for each in classes.values())
    return Prediction(gpu.name, name, side, dispatches, buffers, total, moving, **rates)


def seconds(each: Work, gpu: Gpu) -> float:
    """What a class of kernels takes at least: for its bytes, or for its arithmetic if that is known to be longer."""
    arithmetic = each.operations / (gpu.tflops * 1e12) if gpu.tflops else 0.0
    return max(each.bytes / (gpu.streamed * 1e9), arithmetic)


# ---- check ----

QWEN3_NEXT = Geometry(2048, 48, 512, 10, 512, 512, 16, 2, 256, 16, 32, 128, 128, 151936)
"""Qwen3-Next-80B-A3B: its DeltaNet layers have other projections, two instead of four, and more copies."""


@dataclass(frozen=True)
class Published:
    """A figure that somebody published for stock code, in tokens per second; not reproduced by us."""

    model: str
    gpu: str
    engine: str
    decode: float | None
    prefill: float | None = None
    geometry: str = "35b-a3b"
    bits: int = BITS
    depth: int = 0

    @property
    def shape(self) -> Geometry:
        return QWEN3_NEXT if self.geometry == "80b-a3b" else GEOMETRIES[self.geometry]


PUBLISHED = (
    Published("397B-A17B 4-bit", "M3 Ultra", "MLX, machine implied", 39, geometry="397b-a17b"),
    Published("122B-A10B at 16k", "M5 Max", "not said, nor bits", 60.6, geometry="122b-a10b", depth=16384),
    Published("35B-A3B 4-bit", "M5 Max", "mlx-swift-lm", 133.5, 2757),
    Published("35B-A3B (3.6) 4-bit", "M3 Ultra", "Rapid-MLX, before fusions", 89),
    Published("35B-A3B 8-bit", "M3 Ultra", "mlx-lm 0.31.3", 79.8, 2089, bits=8),
    Published("80B-A3B 4-bit", "M3 Ultra", "mlx-lm", 67.7, 1491, geometry="80b-a3b"),
)


@dataclass(frozen=True)
class Check:
    """A published figure of decoding beside the model's."""

    published: Published
    predicted: Prediction
    usual_error: float
    least_error: float
    """Predicted / published - 1."""
    implied: float
    """Seconds a dispatch with which the model would give the published figure; not above 0 where no cost would."""
    ours: float | None
    """Tokens per second with that cost, as ours would dispatch it."""


@dataclass(frozen=True)
class Ceiling:
    """A published figure of prefill beside what arithmetic allows. No prediction: the share reached is not known."""

    published: Published
    most: float | None
    """Tokens per second; None where no peak of the matrix units is sourced."""
    share: float | None


@dataclass(frozen=True)
class Report:
    """All predictions and the check."""

    warning: str
    checks: tuple[Check, ...]
    ceilings: tuple[Ceiling, ...]
    predictions: tuple[Prediction, ...]
    too_small: Mapping[str, tuple[str, ...]]
    """GPUs in whose memory a geometry does not fit."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the constants."""
        constants = {"dispatch": DISPATCH, "commit": COMMIT, "gpus": [asdict(gpu) for gpu in GPUS]}
        return asdict(self) | {"unit": "tokens per second, predicted", "constants": constants}


def run(gpus: Iterable[Gpu] = GPUS) -> Report:
    """Check the model against what was published, and predict: each GPU, each geometry that fits in its memory."""
    named = {gpu.name: gpu for gpu in GPUS}
    checks, ceilings = [], []
    for each in PUBLISHED:
        gpu = named[each.gpu]
        if each.decode is not None:
            checks.append(_check(each, gpu, each.decode))
        if each.prefill is not None:
            ceilings.append(_ceiling(each, gpu))
    gpus, shapes = tuple(gpus), {name: shape for name, shape in GEOMETRIES.items() if name != "tiny"}
    predictions = tuple(
        predict(gpu, name, side) for gpu in gpus for name, shape in shapes.items() if fits(gpu, shape) for side in SIDES
    )
    too_small = {name: tuple(gpu.name for gpu in gpus if not fits(gpu, shape)) for name, shape in shapes.items()}
    return Report(WARNING, tuple(checks), tuple(ceilings), predictions, too_small)


def _check(each: Published, gpu: Gpu, rate: float) -> Check:
    stock, ours = (predict(gpu, each.geometry, side, each.shape, bits=each.bits, depth=each.depth) for side in SIDES)
    implied = (1 / rate - stock.moving - stock.commits * COMMIT) / stock.dispatches
    at_that = 1 / (ours.moving + ours.dispatches * implied + ours.commits * COMMIT) if implied > 0 else None
    return Check(each, stock, stock.usual / rate - 1, stock.least / rate - 1, implied, at_that)


def fits(gpu: Gpu, shape: Geometry) -> bool:
    """Whether the model with 4-bit weights fits in the memory that macOS gives the GPU."""
    return size(shape) <= USABLE_MEMORY * gpu.memory * 1e9


def _ceiling(each: Published, gpu: Gpu) -> Ceiling:
    """A long prompt, whose weights are read once for many tokens and whose logits are made for one."""
    assert each.prefill is not None
    if gpu.matrix_tflops is None:
        return Ceiling(each, None, None)
    classes = work(each.shape, "stock")
    operations = sum(found.operations for name, found in classes.items() if name != "head")
    most = gpu.matrix_tflops * 1e12 / operations
    return Ceiling(each, most, each.prefill / most)


# ---- as a person reads it ----


def show(report: Report, console: Console) -> None:
    """Print it."""
    console.print(Text(report.warning, style="bold"))
    title = "Check: stock decoding, published (not reproduced by us) and predicted, tokens/s"
    console.print(_titled(title, _checks(report)))
    errors = [abs(check.usual_error) for check in report.checks]
    usual, least = (f"{cost * 1e6:g} us" for cost in DISPATCH.values())
    console.print(
        f"Usual: {usual} a dispatch; the largest of these errors is {max(errors):.0%}, the median "
        f"{statistics.median(errors):.0%}. Least: {least}. Implied: what a dispatch would have to cost for the "
        "published figure, and ours at that cost. M5 lies below the least: there both predictions are too low, and "
        "what ours gains is too high."
    )
    console.print(_titled("Prefill, published, beside what the matrix units allow: no prediction", _ceilings(report)))
    for name in GEOMETRIES:
        found = [each for each in report.predictions if each.geometry == name]
        if found:
            title = f"{name}, 4-bit: predicted decoding, tokens/s, from the usual to the least cost of a dispatch"
            console.print(_titled(title, _predictions(found)))
        if names := report.too_small.get(name):
            console.print(f"{name} does not fit in the memory of {', '.join(names)}.")
    console.print(
        "Commits: stock / ours. Limit: if a token took nothing but its bytes. Ours differs from stock by counted "
        "dispatches, bytes and commits only (python -m deltamoe.bench counts moe, counts gdn): that our kernels stream "
        "as stock's do is assumed. Empty cache."
    )
    console.print(Text(report.warning, style="bold"))


def _checks(report: Report) -> Table:
    right = ("published", "usual", "error", "least", "error", "implied us", "ours at it")
    table = _columns("model", "GPU", "engine", right=right)
    for check in report.checks:
        of, found = check.published, check.predicted
        table.add_row(
            of.model,
            of.gpu,
            of.engine,
            str(of.decode),
            f"{found.usual:.1f}",
            f"{check.usual_error:+.0%}",
            f"{found.least:.1f}",
            f"{check.least_error:+.0%}",
            f"{check.implied * 1e6:.1f}",
            "" if check.ours is None else f"{check.ours:.0f}",
        )
    return table


def _ceilings(report: Report) -> Table:
    table = _columns("model", "GPU", right=("published", "at most", "share"))
    for each in report.ceilings:
        most = "no peak was found" if each.most is None else f"{each.most:,.0f}"
        share = "" if each.share is None else f"{each.share:.0%}"
        table.add_row(each.published.model, each.published.gpu, f"{each.published.prefill:,}", most, share)
    return table


def _predictions(found: list[Prediction]) -> Table:
    right = ("GB/s", "stock", "ours", "ours / stock", "commits", "limit")
    table = _columns("GPU", right=right)
    gpus = {gpu.name: gpu for gpu in GPUS}
    for stock, ours in zip(found[::2], found[1::2], strict=True):
        gpu = gpus.get(stock.gpu)
        table.add_row(
            stock.gpu,
            f"{gpu.streamed:.0f}" if gpu else "",
            *(f"{each.usual:.1f} - {each.least:.1f}" for each in (stock, ours)),
            f"{ours.least / stock.least:.2f} - {ours.usual / stock.usual:.2f}",
            f"{stock.commits} / {ours.commits}",
            f"{1 / ours.moving:.0f}",
        )
    first = found[:2]
    table.caption = (
        f"A token: {first[0].bytes / 1e6:,.0f} MB (ours {first[1].bytes / 1e6:,.0f}), "
        f"{first[0].dispatches:,} dispatches (ours {first[1].dispatches:,})."
    )
    return table


def _columns(*left: str, right: tuple[str, ...]) -> Table:
    table = Table(*left)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _titled(title: str, table: Table) -> Group:
    return Group(Text(), Text(title, style="bold"), table)
