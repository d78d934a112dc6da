"""The report in short, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deltamoe.track.report import quantity
from deltamoe.track.report.chart import value_range
from deltamoe.track.report.series import Case, Group, Machine, Point, Series

__all__ = ["show", "sparkline"]

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN = str.maketrans(  # where the terminal has ASCII only
    dict(zip(BLOCKS, "__..--^^", strict=True))
    | {"▲": "^", "▼": "v", "±": "+-", "µ": "u", quantity.TIMES: "x", quantity.MINUS: "-"}
)
TREND = 20  # runs of a sparkline, at most
NARROW = 100  # columns; a terminal of fewer shows half of the trend
NARROWER = 76  # and one of fewer than these neither trend nor interval


def show(machines: Sequence[Machine], console: Console) -> None:
    """Print what :func:`deltamoe.track.report.series.machines` found, a table for each model."""
    if not any(machine.groups for machine in machines):
        console.print("Nothing is recorded yet: deltamoe track record --model MODEL")
        return
    for machine in machines:
        runs = f"{machine.run_count} run{'' if machine.run_count == 1 else 's'}"
        console.print(_text(console, f"{machine.name}: {machine.about}; {runs}", "bold"), soft_wrap=True)
        for group in machine.groups:
            console.print(_table(group, console))


def sparkline(points: Sequence[Point]) -> str:
    """The medians as blocks of eight heights; those that hardly differ look so."""
    medians = [point.median for point in points]
    low, high = value_range(medians)
    return "".join(BLOCKS[int(len(BLOCKS) * (value - low) / (high - low))] for value in medians)


def _table(group: Group, console: Console) -> Table:
    title = _text(console, group.model or "Kernels and other benchmarks", "bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    left_out = {"trend", "interval"} if console.width < NARROWER else set()
    if not any(case.limit(case.main.latest) for case in group.cases):
        left_out.add("limit")
    table.add_column("", overflow="fold", min_width=12)
    for name in "side", "trend", "latest", "interval", "x stock", "limit", "change":
        if name not in left_out:
            table.add_column(name, no_wrap=True, justify="left" if name in ("side", "trend") else "right")
    for case in group.cases:
        for series in case.series:
            table.add_row(*(text for name, text in _row(case, series, console).items() if name not in left_out))
    return table


def _row(case: Case, series: Series, console: Console) -> dict[str, Text]:
    point = series.latest
    speed, limit = case.speed(series), case.limit(point)
    last = series.changes[-1] if series.changes else None
    runs = TREND // 2 if console.width < NARROW else TREND
    main = series is case.main
    style = "" if main else "dim"
    texts = {
        "what": case.label if main else "",
        "side": series.side,
        "trend": sparkline(series.points[-runs:]),
        "latest": quantity.scale(point.median, case.unit).text(point.median),
        "interval": f"{'noisy ' if point.noisy else ''}±{quantity.percent(point.spread)}",
        "x stock": "" if speed is None else quantity.times(speed),
        "limit": "" if limit is None else quantity.percent(case.share(point.median, limit)),
        "change": "" if last is None else f"{'▲' if last.faster else '▼'} {quantity.change(last.relative)}",
    }
    styles = {
        "trend": "cyan" if main else style,
        "interval": "yellow" if point.noisy else style,
        "change": "" if last is None else "green" if last.faster else "red",
    }
    return {key: _text(console, text, styles.get(key, style)) for key, text in texts.items()}


def _text(console: Console, text: str, style: str = "") -> Text:
    """Text that the terminal can show: from a database may come markup, control codes, any alphabet."""
    if not console.encoding.lower().startswith("utf"):
        text = text.translate(PLAIN)
    text = text.encode(console.encoding, "replace").decode(console.encoding)
    return Text("".join(letter if letter.isprintable() else "?" for letter in text), style=style, overflow="fold")
