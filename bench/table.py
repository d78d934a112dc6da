"""Rows as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cases import ARMS, FAST, STOCK
from bench.kernels import Row
from deltamoe.measure.limits import Limit

__all__ = ["kernel_table", "limits_table", "seconds", "wide_console"]

STYLES = {"faster": "green", "slower": "red", "noisy": "yellow", "same": ""}


def kernel_table(rows: Iterable[Row]) -> Table:
    """Time, rate, fraction of the limit, speed over each other arm with its 95% interval, variation."""
    table = Table(title="Kernels: medians; [95% intervals]; cold weights", title_justify="left")
    table.add_column("case", overflow="fold")
    for name in ("time", "rate", "of limit", "x stock mlx-lm", "x mx.fast", "cv"):
        table.add_column(name, justify="right")
    for row in rows:
        fraction, rate = row.fraction, row.rate
        table.add_row(
            row.case.name + (f" ({row.note})" if row.note else ""),
            Text(seconds(row.time.median) + (" noisy" if row.noisy else ""), "yellow" if row.noisy else ""),
            f"{rate[0]:.3g} {rate[1]}" if rate else "-",
            f"{fraction.ratio:.2f} [{fraction.low:.2f}, {fraction.high:.2f}]" if fraction else "-",
            *(_against(row, arm) for arm in (STOCK, FAST)),
            f"{100 * row.time.cv:.0f}%",
        )
    return table


def limits_table(limits: Iterable[Limit]) -> Table:
    """What the machine can do at most."""
    table = Table(title="Limits, measured now: medians; [95% intervals]", title_justify="left")
    for name in ("limit", "threads"):
        table.add_column(name)
    for name in ("rate", "cv"):
        table.add_column(name, justify="right")
    for limit in limits:
        low, median, high = (1e-9 * value for value in (limit.rate.low, limit.rate.median, limit.rate.high))
        unit = "GB/s" if limit.probe.unit == "B" else "GFLOP/s"
        rate = f"{median:.3g} [{low:.3g}, {high:.3g}] {unit}"
        table.add_row(limit.probe.what, str(limit.threads or "GPU"), rate, f"{100 * limit.rate.cv:.0f}%")
    return table


def wide_console() -> Console:
    """The terminal, or a file with room for the tables."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def seconds(value: float) -> str:
    """With the unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def _against(row: Row, arm: str) -> Text:
    if arm not in ARMS[row.case.op]:
        return Text("")
    found = row.against(arm)
    if found is None:
        return Text(f"left out: {row.left_out[arm]}", "dim")
    word = row.winner(arm)
    if word == "noisy":
        return Text("noisy", STYLES[word])
    return Text(f"{found.ratio:.3g} [{found.low:.3g}, {found.high:.3g}] {word}", STYLES[word])
