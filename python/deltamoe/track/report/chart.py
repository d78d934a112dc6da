"""The geometry of the page's charts, in an SVG's units; the template draws it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltamoe.track.report import quantity
from deltamoe.track.report.series import Case, Change, Point, Series
from deltamoe.track.store import Run

__all__ = ["Annotation", "Chart", "Dot", "Plot", "Strip", "Text", "draw", "sparkline", "value_range"]

WIDTH = 360.0
LEFT, RIGHT = 46.0, 10.0  # margins: numbers to the left
MAIN_HEIGHT, OTHER_HEIGHT = 116.0, 46.0
HEADING = 16.0  # room above a plot for its side's name
ANNOTATION = 12.0  # room for each row of annotations
LETTER = 5.7  # width of a letter of an annotation, about
FOOT = 18.0  # room below for revisions
REVISION_WIDTH = 62.0
MIN_SPAN = 0.06  # of the level: an axis that shows less would make noise look like news
SPARK = 72.0, 18.0


@dataclass(frozen=True)
class Text:
    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    noisy: bool


@dataclass(frozen=True)
class Annotation:
    """A change of level: a line at ``x``, between two runs, and what it says."""

    x: float
    label: Text
    faster: bool


@dataclass(frozen=True)
class Plot:
    """One side: a band (95% intervals) behind a line (medians), both as SVG paths."""

    side: str
    heading: float
    top: float
    bottom: float
    band: str
    line: str
    dots: tuple[Dot, ...]
    ticks: tuple[Text, ...]
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class Strip:
    """Where pointing or tapping reads out a run."""

    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Chart:
    """The sides of a case below each other, runs from left to right."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    plots: tuple[Plot, ...]
    revisions: tuple[Text, ...]
    strips: tuple[Strip, ...]


def draw(case: Case, runs: Sequence[Run]) -> Chart:
    """Chart a case.

    Args:
        runs: of the x axis, in order; each the same distance from the next, for a clock is no measure of change.
    """
    step = (WIDTH - LEFT - RIGHT) / len(runs)
    x = {run.id: LEFT + (i + 0.5) * step for i, run in enumerate(runs)}
    y = 0.0
    plots = []
    for series in case.series:
        plots.append(_plot(case, series, x, step, y, MAIN_HEIGHT if series is case.main else OTHER_HEIGHT))
        y = plots[-1].bottom + 8
    every = math.ceil(REVISION_WIDTH / step)
    labelled = range(len(runs) - 1, -1, -every)  # the latest is labelled
    edge = WIDTH - REVISION_WIDTH / 2
    return Chart(
        width=WIDTH,
        height=y - 8 + FOOT,
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=y - 8,
        plots=tuple(plots),
        revisions=tuple(
            Text(
                WIDTH if x[runs[i].id] > edge else x[runs[i].id],
                y + 5,
                runs[i].label[:7],
                "end" if x[runs[i].id] > edge else "middle",
            )
            for i in labelled
        ),
        strips=tuple(Strip(LEFT + i * step, step, _readout(case, run)) for i, run in enumerate(runs)),
    )


def sparkline(points: Sequence[Point]) -> str:
    """The medians as an SVG path in a box of :data:`SPARK`; each the same distance from the next."""
    width, height = SPARK
    low, high = value_range([point.median for point in points])
    step = (width - 4) / max(len(points) - 1, 1)
    return _path([(2 + i * step, 2 + (height - 4) * (high - p.median) / (high - low)) for i, p in enumerate(points)])


def _plot(case: Case, series: Series, x: Mapping[int, float], step: float, y: float, height: float) -> Plot:
    points = series.points
    placed = _annotations(series, x, step, y + HEADING - 4)
    top = y + HEADING + (max(note.label.y for note in placed) - (y + HEADING - 4) if placed else 0)
    bottom = top + height
    low, high = value_range([value for point in points for value in (point.summary.low, point.summary.high)])

    def place(value: float) -> float:
        return top + (bottom - top) * (high - value) / (high - low)

    shown = quantity.scale(series.latest.median, case.unit)
    marks, tick_step = _ticks(low, high, 4 if series is case.main else 3)
    upper = [(x[p.run.id], place(p.summary.high)) for p in points]
    lower = [(x[p.run.id], place(p.summary.low)) for p in points]
    if len(points) == 1:  # an interval that can be seen
        upper = [(upper[0][0] + dx, upper[0][1]) for dx in (-4, 4)]
        lower = [(lower[0][0] + dx, lower[0][1]) for dx in (-4, 4)]
    return Plot(
        side=series.side,
        heading=y + HEADING - 4,
        top=top,
        bottom=bottom,
        band=_path(upper + lower[::-1]) + "Z",
        line=_path([(x[p.run.id], place(p.median)) for p in points]),
        dots=tuple(Dot(round(x[p.run.id], 1), round(place(p.median), 1), p.noisy) for p in points),
        ticks=tuple(Text(LEFT - 5, round(place(mark), 1), shown.fixed(mark, tick_step), "end") for mark in marks),
        annotations=placed,
    )


def _annotations(series: Series, x: Mapping[int, float], step: float, first_row: float) -> tuple[Annotation, ...]:
    """Labels beside their lines; one that would overlap another, or the side's name, goes a row further down."""
    ends = [LEFT + LETTER * (len(series.side) + 2)]
    placed = []
    for change in series.changes:
        at = x[change.run.id] - step / 2
        text = _label(change)
        width = LETTER * len(text)
        start = min(max(at - width / 2, LEFT), WIDTH - width)
        row = next((i for i, end in enumerate(ends) if end < start), len(ends))
        ends[row:] = [start + width + LETTER, *ends[row + 1 :]]
        label = Text(round(start, 1), first_row + ANNOTATION * row, text)
        placed.append(Annotation(round(at, 1), label, change.faster))
    return tuple(placed)


def _label(change: Change) -> str:
    sign = "\N{BLACK UP-POINTING TRIANGLE}" if change.faster else "\N{BLACK DOWN-POINTING TRIANGLE}"
    return f"{sign} {quantity.change(change.relative)} {change.run.label[:7]}"


def _readout(case: Case, run: Run) -> str:
    parts = []
    for series in case.series:
        for point in series.points:
            if point.run.id == run.id:
                shown = quantity.scale(point.median, case.unit)
                interval = f"{shown.number(point.summary.low)} to {shown.number(point.summary.high)}"
                noisy = ", noisy" if point.noisy else ""
                parts.append(f"{series.side} {shown.text(point.median)} ({interval}{noisy})")
    return f"{run.label}, {run.started[:10]}: {'; '.join(parts) or 'not measured'}"


def value_range(values: Sequence[float]) -> tuple[float, float]:
    """The values' range and some room; values that hardly differ get an axis on which they look so."""
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), (MIN_SPAN * high - (high - low)) / 2)
    return low - room, high + room


def _ticks(low: float, high: float, most: int) -> tuple[list[float], float]:
    """At most ``most + 1`` round values in the range, and their distance."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [i * step for i in range(first, last + 1)], step


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
