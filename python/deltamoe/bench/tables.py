"""Reports as a person reads them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from deltamoe.bench import accuracy, gdn, moe
from deltamoe.bench.report import Bar, tokens_in_words
from deltamoe.bench.simulate import Counts, total
from deltamoe.bench.stock import moe as stock_moe
from deltamoe.synthetic import GEOMETRIES

__all__ = ["show"]

NAMES = {
    "bytes_loaded": "bytes loaded from device memory",
    "line_bytes": "distinct cache lines of them, in bytes",
    "weight_bytes": "bytes loaded of codes, scales and biases",
    "code_bytes": "of those, codes",
    "bytes_stored": "bytes stored to device memory",
    "threadgroup_bytes": "bytes of threadgroup memory, both ways",
    "barriers": "barriers",
    "matrix_ops": "matrix operations (8x8x8)",
    "simd_ops": "SIMD-group operations",
}


def show(report: moe.Report | gdn.Report | accuracy.Report, console: Console) -> None:
    """Print it."""
    if isinstance(report, moe.Report):
        parts = _moe(report)
    elif isinstance(report, gdn.Report):
        parts = _gdn(report)
    else:
        parts = _accuracy(report)
    for part in parts:
        console.print(part)
    console.print(_bars(report.bars))


# ---- counts moe ----


def _moe(report: moe.Report) -> Iterator[str | Group]:
    shape = GEOMETRIES[report.geometry]
    yield (
        f"{report.geometry}: one mixture of experts, {shape.num_experts} experts of which each token has "
        f"{shape.num_experts_per_tok}, and a shared one; hidden {shape.hidden_size:,}, intermediate "
        f"{shape.moe_intermediate_size:,}; {moe.DTYPE}, {moe.FORMAT[1]} bits, groups of {moe.FORMAT[0]}."
    )
    yield (
        "Counts by the simulator, not times. Ours: everything but the gate matmul. Stock: its products with the "
        "experts' and the shared expert's matrices only; the dispatches are all."
    )
    yield _about_metallib("Stock's kernels are", report.metallib)
    for each in report.comparisons:
        yield _comparison(each)


def _comparison(each: moe.Comparison) -> Group:
    ours, theirs = total(each.ours), total(each.stock)
    table = _columns("ours", "stock", "ours / stock")
    more = " and more, to sort" if stock_moe.is_sorted(each.pairs) else ""
    table.add_row("dispatches, with the gate matmul", str(each.our_dispatches), f"{each.stock_dispatches}{more}", "")
    for field in fields(Counts):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        table.add_row(NAMES[field.name], f"{a:,}", f"{b:,}", f"{a / b:.3f}" if b else "")
    for name, what in (("line_bytes", "distinct cache lines"), ("weight_bytes", "bytes loaded of weights")):
        a, b = (getattr(side, name) / each.weights for side in (ours, theirs))
        table.add_row(f"{what} / bytes of weights", f"{a:.4f}", f"{b:.4f}", "")
    return _titled(_heading(each), table)


def _heading(each: moe.Comparison) -> str:
    what = f"{tokens_in_words(each.tokens)}: {each.pairs} pairs on {each.experts} experts"
    what += f"; with the shared one {each.weights:,} bytes of weights."
    if each.cut.parts == (1, 1):
        return what
    sizes = [f"{n} x {k}" for n, k in zip(each.cut.rows, each.cut.columns, strict=True)]
    parts = each.cut.parts
    return (
        f"{what}\nRun: {sizes[0]} of each gate and up, {sizes[1]} of each down; their counts are taken {parts[0]} and "
        f"{parts[1]} times."
    )


# ---- counts gdn ----


def _gdn(report: gdn.Report) -> Iterator[str | Group]:
    shape = GEOMETRIES[report.geometry]
    v_heads = shape.linear_num_value_heads
    yield (
        f"{report.geometry}: one Gated DeltaNet layer, {shape.linear_num_key_heads} key heads of "
        f"{shape.linear_key_head_dim}, {v_heads} value heads of {shape.linear_value_head_dim}; bfloat16, state float32."
    )
    yield (
        "Counts by the simulator, not times. Ours: from qkv, z, a and b to y, with convolution, silu, norms of q, k, "
        "gates, the rule and gated RMSNorm. MLX core's and mlx-lm's: the rule alone, with q, k, v, g and beta made by "
        "dispatches before it; at 1 token the number of dispatches is that of the whole layer."
    )
    yield (
        "Ours and mlx-lm's are compiled from source, without merging repeated loads (mlx-lm's loads k twice). "
        + _about_metallib("MLX core's is", report.metallib)
    )
    ours, theirs = report.decode
    table = _columns(ours.name, theirs.name)
    table.add_row("dispatches, with the projections", *(str(n) for n in report.layer.values()))
    table.add_row("bytes of state loaded and stored", *(f"{gdn.state_bytes(side):,}" for side in report.decode))
    _add_counts(table, [side.counts for side in report.decode], lambda n: f"{n:,}")
    yield _titled("1 token", table)
    table = _columns(*(side.name for side in report.prefill))
    table.add_row("dispatches of these", *(str(len(side.dispatches)) for side in report.prefill))
    pairs = report.tokens * v_heads
    _add_counts(table, [side.counts for side in report.prefill], lambda n: _four_digits(n / pairs))
    yield _titled(f"{tokens_in_words(report.tokens)}: per token and value head", table)


def _add_counts(table: Table, sides: Sequence[Counts], text: Callable[[int], str]) -> None:
    """Without counts of which there are none."""
    for field in fields(Counts):
        numbers = [getattr(side, field.name) for side in sides]
        if any(numbers):
            table.add_row(NAMES[field.name], *map(text, numbers))


def _four_digits(x: float) -> str:
    return f"{x:,.0f}" if x >= 1000 else f"{x:.4g}"


# ---- accuracy gdn ----


def _accuracy(report: accuracy.Report) -> Iterator[str | Group]:
    yield (
        f"The gated delta rule over {tokens_in_words(report.tokens)}, one head of {accuracy.WIDTH} x {accuracy.WIDTH}: "
        "relative L2 errors against float64 from the same q, k, v, a and b, by the simulator."
    )
    yield (
        "MLX core's and mlx-lm's kernels get g and beta as mlx-lm makes them; MLX core's rounds both to the dtype of q."
    )
    yield (
        f"Below {accuracy.roundoff(report.tokens):.1e}, what rounding to float32 once per token comes to in a random "
        "walk, errors are taken for equal where they are compared."
    )
    for what in accuracy.MEASURES:
        table = Table("inputs", "gates", "beta", "keys", *accuracy.SIDES)
        for column in table.columns[4:]:
            column.justify = "right"
        for dtype, group in itertools.groupby(report.rows, key=lambda row: row.case.dtype):
            for row in group:
                case = row.case
                errors = [f"{row.errors[side][what]:.2e}" for side in accuracy.SIDES]
                table.add_row(dtype, case.gates, case.beta, case.keys, *errors)
            table.add_section()
        yield _titled(f"Error of the {what}", table)


# ---- all ----


def _columns(*names: str) -> Table:
    table = Table("", *names)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _titled(title: str, table: Table) -> Group:
    return Group(Text(), Text(title, style="bold"), table)


def _about_metallib(whose: str, metallib: str | None) -> str:
    if metallib:
        return f"{whose} of mlx.metallib, as Apple's compiler left it."
    return (
        f"{whose} compiled from MLX's headers without merging repeated loads, so its bytes are too many and are not "
        "judged: mlx.metallib, of the mlx-metal wheel, is not there (the tests fetch it)."
    )


def _bars(bars: Sequence[Bar]) -> Group:
    table = Table("", "bar", "figure", "condition", "", title="Bars", title_justify="left", title_style="bold")
    words = {True: "[green]holds[/]", False: "[red]FAILS[/]", None: "not judged"}
    for case, group in itertools.groupby(bars, key=lambda bar: bar.case):
        for bar in group:
            table.add_row(case, bar.what, f"{bar.figure:.4g}", bar.condition, words[bar.holds])
        table.add_section()
    return Group(Text(), table)
