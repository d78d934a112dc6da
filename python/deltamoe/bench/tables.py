"""A report of counts as a person reads it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import fields

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from deltamoe.bench import stock
from deltamoe.bench.moe import DTYPE, FORMAT, Bar, Comparison, Report
from deltamoe.bench.simulate import Counts, total
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


def show(report: Report, console: Console) -> None:
    """Print it."""
    shape = GEOMETRIES[report.geometry]
    console.print(
        f"{report.geometry}: one mixture of experts, {shape.num_experts} experts of which each token has "
        f"{shape.num_experts_per_tok}, and a shared one; hidden {shape.hidden_size:,}, intermediate "
        f"{shape.moe_intermediate_size:,}; {DTYPE}, {FORMAT[1]} bits, groups of {FORMAT[0]}.",
        "Counts by the simulator, not times. Ours: everything but the gate matmul. Stock: its products with the "
        "experts' and the shared expert's matrices only; the dispatches are all.",
        _about_stock(report.metallib),
        sep="\n",
    )
    for each in report.comparisons:
        console.print(_table(each))
    console.print(_table_of_bars(report.bars))


def _about_stock(metallib: str | None) -> str:
    if metallib:
        return "Stock's kernels are those of mlx.metallib, as Apple's compiler left them."
    return (
        "Stock's kernels are compiled from MLX's headers without merging repeated loads, so its bytes are too many and "
        "are not judged: mlx.metallib, of the mlx-metal wheel, is not there (the tests fetch it)."
    )


def _table(each: Comparison) -> Group:
    ours, theirs = total(each.ours), total(each.stock)
    table = Table("", "ours", "stock", "ours / stock")
    for column in table.columns[1:]:
        column.justify = "right"
    more = " and more, to sort" if stock.is_sorted(each.pairs) else ""
    table.add_row("dispatches, with the gate matmul", str(each.our_dispatches), f"{each.stock_dispatches}{more}", "")
    for field in fields(Counts):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        table.add_row(NAMES[field.name], f"{a:,}", f"{b:,}", f"{a / b:.3f}" if b else "")
    for name, what in (("line_bytes", "distinct cache lines"), ("weight_bytes", "bytes loaded of weights")):
        a, b = (getattr(side, name) / each.weights for side in (ours, theirs))
        table.add_row(f"{what} / bytes of weights", f"{a:.4f}", f"{b:.4f}", "")
    return Group(Text(), Text(_heading(each), style="bold"), table)


def _heading(each: Comparison) -> str:
    what = f"{each.tokens} token{'s' * (each.tokens > 1)}: {each.pairs} pairs on {each.experts} experts"
    what += f"; with the shared one {each.weights:,} bytes of weights."
    if each.cut.parts == (1, 1):
        return what
    sizes = [f"{n} x {k}" for n, k in zip(each.cut.rows, each.cut.columns, strict=True)]
    parts = each.cut.parts
    return (
        f"{what}\nRun: {sizes[0]} of each gate and up, {sizes[1]} of each down; their counts are taken {parts[0]} and "
        f"{parts[1]} times."
    )


def _table_of_bars(bars: Sequence[Bar]) -> Group:
    table = Table("tokens", "bar", "figure", "condition", "", title="Bars", title_justify="left", title_style="bold")
    words = {True: "[green]holds[/]", False: "[red]FAILS[/]", None: "not judged"}
    for tokens, group in itertools.groupby(bars, key=lambda bar: bar.tokens):
        for bar in group:
            table.add_row(str(tokens), bar.what, f"{bar.figure:.4g}", bar.condition, words[bar.holds])
        table.add_section()
    return Group(Text(), table)
