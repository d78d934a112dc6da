"""The report as one HTML file that asks for nothing else: styles, script and charts are in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

import deltamoe
from deltamoe.track.record import PATCHED, STOCK
from deltamoe.track.report import chart, quantity
from deltamoe.track.report.series import MIN_CHANGE, MIN_POINTS, Case, Change, Group, Machine, Series, setting
from deltamoe.track.store import Run

__all__ = ["render"]

NEWS_SHOWN = 6  # runs that changed something; earlier ones are folded away


@dataclass(frozen=True)
class Shift:
    """A change of level, and of what."""

    group: Group
    case: Case
    series: Series
    change: Change


@dataclass(frozen=True)
class News:
    """What changed with one run."""

    machine: Machine
    run: Run
    shifts: tuple[Shift, ...]


@dataclass(frozen=True)
class Bar:
    """The latest measurement of one side of a kernel, as a share of the machine's limit."""

    series: Series
    share: float
    low: float
    high: float


def render(machines: Sequence[Machine]) -> str:
    """The page, from what :func:`deltamoe.track.report.series.machines` found, which may be nothing.

    Whatever comes from the database is escaped, and a content security policy forbids the page every script but its
    own and every address.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("deltamoe.track.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "change": quantity.change,
        "percent": quantity.percent,
        "times": quantity.times,
        "setting": lambda item: setting(*item),
    }
    assert environment.loader is not None
    style, script = (environment.loader.get_source(environment, name)[0] for name in ("page.css", "page.js"))
    cases = [case for machine in machines for group in machine.groups for case in group.cases]
    anchors = {id(case): f"case-{i}" for i, case in enumerate(cases)}
    return environment.get_template("page.html.j2").render(
        machines=machines,
        news=_news(machines),
        news_shown=NEWS_SHOWN,
        cases=cases,
        anchor=lambda case: anchors[id(case)],
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=deltamoe.__version__,
        patched=PATCHED,
        stock=STOCK,
        min_points=MIN_POINTS,
        min_change=MIN_CHANGE,
        draw=chart.draw,
        sparkline=chart.sparkline,
        spark=chart.SPARK,
        bars=_bars,
        most_of=lambda kernels: max(1.0, *(bar.high for _, rows in kernels for bar in rows)),
        scale=quantity.scale,
    )


def _news(machines: Iterable[Machine]) -> list[News]:
    """Changes of level by run, the latest first; stock's own are told beside those of other sides."""
    found: dict[int, tuple[Machine, list[Shift]]] = {}
    for machine in machines:
        for group in machine.groups:
            for case in group.cases:
                for series in case.series:
                    for change in series.changes if series is not case.stock else ():
                        found.setdefault(change.run.id, (machine, []))[1].append(Shift(group, case, series, change))
    return [
        News(machine, shifts[0].change.run, tuple(shifts))
        for _, (machine, shifts) in sorted(found.items(), reverse=True)
    ]


def _bars(case: Case) -> list[Bar]:
    """A bar for each side of which a limit is known."""
    found = []
    for series in case.series:
        point = series.latest
        limit = case.limit(point)
        if limit is not None:
            summary = point.summary
            shares = [case.share(value, limit) for value in (summary.median, summary.low, summary.high)]
            found.append(Bar(series, shares[0], min(shares[1:]), max(shares[1:])))
    return found
