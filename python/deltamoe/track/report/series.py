"""Measurements as series over time, one per machine, name, settings and side, and where their level changed."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import ruptures

from deltamoe.measure.statistics import Summary, summarize
from deltamoe.track.record import PATCHED, STOCK
from deltamoe.track.store import Measurement, Run, canonical

__all__ = ["Case", "Change", "Group", "Limit", "Machine", "Point", "Series", "find_changes", "machines"]

MIN_POINTS = 8  # a series shorter than this has no change points
MIN_LEVEL = 3  # points at one level: an odd run or two are no change
MIN_CHANGE = 0.01  # relative; smaller ones are not worth a reader's time
MIN_NOISE = 0.002  # relative; even a quiet machine scatters so much from run to run
LARGEST_STEPS = 2  # between neighbours, taken for changes and not for noise
PENALTY = 6.0  # of a change, times variance and log n; tests/track/test_report.py holds it to few false alarms


@dataclass(frozen=True)
class Point:
    """What one run measured: samples that are positive and finite, at least one."""

    run: Run
    samples: tuple[float, ...]
    noisy: bool
    notes: Mapping[str, Any]

    @cached_property
    def median(self) -> float:
        return float(np.median(self.samples))

    @cached_property
    def summary(self) -> Summary:
        """Takes milliseconds."""
        return summarize(self.samples)

    @property
    def spread(self) -> float:
        """Half the width of the median's 95% interval, as a share of the median."""
        return (self.summary.high - self.summary.low) / 2 / self.median


@dataclass(frozen=True)
class Change:
    """The level of a series changed.

    Attributes:
        index: of the first point at the new level.
        run: of that point.
        before, after: the levels, in the series' unit: medians of the runs' medians.
    """

    index: int
    run: Run
    before: float
    after: float
    higher_is_better: bool

    @property
    def faster(self) -> bool:
        return (self.after > self.before) == self.higher_is_better

    @property
    def relative(self) -> float:
        """How much the value changed: -0.05 where it fell by 5%."""
        return self.after / self.before - 1


@dataclass(frozen=True)
class Series:
    """One side of a case; points in the order of runs, at least one."""

    side: str
    points: tuple[Point, ...]
    changes: tuple[Change, ...]

    @property
    def latest(self) -> Point:
        return self.points[-1]


@dataclass(frozen=True)
class Limit:
    """The least time or the highest rate that the machine allows, in the unit of the samples."""

    value: float
    what: str


@dataclass(frozen=True)
class Case:
    """One thing measured under one setting on one machine, by one side or several.

    Attributes:
        label: its name, and its settings where others of its name have others.
        series: the main side first, stock last.
    """

    label: str
    unit: str
    higher_is_better: bool
    settings: Mapping[str, Any]
    series: tuple[Series, ...]

    @property
    def main(self) -> Series:
        return self.series[0]

    @property
    def stock(self) -> Series | None:
        """The side to compare with, where it is there beside another."""
        return self.series[-1] if len(self.series) > 1 and self.series[-1].side == STOCK else None

    def speed(self, series: Series) -> float | None:
        """How many times as fast as stock in the latest run that has both; None where there is none."""
        if self.stock is None or series is self.stock:
            return None
        theirs = {point.run.id: point.median for point in self.stock.points}
        for point in reversed(series.points):
            if point.run.id in theirs:
                ratio = point.median / theirs[point.run.id]
                return ratio if self.higher_is_better else 1 / ratio
        return None

    def stock_changed_too(self, change: Change) -> bool:
        """Whether stock's level changed the same way at that run or a neighbour: then the machine did, not the code."""
        if self.stock is None:
            return False
        runs = [point.run.id for point in self.stock.points]
        places = [other.index for other in self.stock.changes if other.faster == change.faster]
        near = {runs[i] for place in places for i in (place - 1, place, place + 1) if i < len(runs)}
        return change.run.id in near

    def limit(self, point: Point) -> Limit | None:
        """The machine's limit that was measured beside the point, if there is one."""
        limit = point.notes.get("limit")
        if not isinstance(limit, Mapping):
            return None
        value = limit.get("value")
        if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            return None
        return Limit(float(value), str(limit.get("what", "")))

    def share(self, value: float, limit: Limit) -> float:
        """A value as a share of what the machine allows."""
        return value / limit.value if self.higher_is_better else limit.value / value


@dataclass(frozen=True)
class Group:
    """The cases of one model, or those of no model: kernels.

    Attributes:
        model: its name; empty where there is none.
        common: settings that all cases share.
        runs: those that measured any of the cases, in order.
    """

    model: str
    model_hash: str
    common: Mapping[str, Any]
    cases: tuple[Case, ...]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Machine:
    """All that was measured on one machine.

    Attributes:
        name: its processors; with the fingerprint where two machines have the same.
        about: cores, memory and system, as its latest run tells them.
        runs: that are shown, in order.
        run_count: how many there are.
    """

    name: str
    about: str
    groups: tuple[Group, ...]
    runs: tuple[Run, ...]
    run_count: int


def machines(runs: Iterable[Run], measurements: Iterable[Measurement], last: int | None = None) -> list[Machine]:
    """Sort measurements into machines, models, cases and series.

    Args:
        runs: in order.
        measurements: those of other runs, and samples that are not positive and finite, are left out.
        last: how many runs of each machine to take, the latest ones; None takes all.
    """
    by_machine: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_machine[run.machine].append(run)
    by_run: dict[int, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        by_run[measurement.run_id].append(measurement)
    names = {fingerprint: _name(of_machine[-1]) for fingerprint, of_machine in by_machine.items()}
    found = []
    for fingerprint, of_machine in by_machine.items():
        name = names[fingerprint]
        if list(names.values()).count(name) > 1:
            name += f" ({fingerprint[:8]})"
        kept = of_machine if last is None else of_machine[-last:]
        groups = _groups([(run, each) for run in kept for each in by_run[run.id]])
        found.append(Machine(name, _about(kept[-1]), groups, tuple(kept), len(of_machine)))
    return found


def find_changes(points: Sequence[Point], *, higher_is_better: bool) -> tuple[Change, ...]:
    """Where the level of the medians changed: PELT over their logarithms, with a penalty by their scatter.

    The scatter is the root mean square of the steps between neighbours, less the largest two: a jump is no noise.
    """
    n = len(points)
    if n < MIN_POINTS:
        return ()
    medians = np.array([point.median for point in points])
    logs = np.log(medians)
    steps = np.sort(np.abs(np.diff(logs)))[:-LARGEST_STEPS]
    noise = max(MIN_NOISE, (1 + 4 / n) * math.sqrt(float(np.mean(steps**2)) / 2))  # few points tell it less well
    search = ruptures.KernelCPD(kernel="linear", min_size=MIN_LEVEL).fit(logs[:, None])  # least squares
    ends = search.predict(pen=PENALTY * noise**2 * math.log(n))
    levels = [float(np.median(medians[a:b])) for a, b in zip([0, *ends], ends, strict=False)]
    return tuple(
        Change(index, points[index].run, before, after, higher_is_better)
        for index, before, after in zip(ends, levels, levels[1:], strict=False)
        if abs(after / before - 1) >= MIN_CHANGE
    )


def setting(key: str, value: Any) -> str:
    """A setting as a person reads it: ``batch 4``, ``bfloat16``."""
    return value if isinstance(value, str) else f"{key} {canonical({key: value}).partition(':')[2][:-1]}"


def _name(run: Run) -> str:
    cpu, gpu = (str(run.machine_facts.get(key) or "") for key in ("cpu", "gpu"))
    parts = [gpu] if cpu and cpu in gpu else [cpu, gpu]  # Apple's have one name
    return ", ".join(filter(None, parts)) or f"machine {run.machine[:8]}"


def _about(run: Run) -> str:
    facts = run.machine_facts
    shown = {"cores": "{} cores", "memory": "{} GiB of memory", "system": "{}", "architecture": "{}"}
    return ", ".join(text.format(facts[key]) for key, text in shown.items() if facts.get(key))


_Key = tuple[str, str, str, bool]  # name, settings, unit, whether higher is better


def _groups(taken: Iterable[tuple[Run, Measurement]]) -> tuple[Group, ...]:
    found: dict[tuple[str, str], dict[_Key, dict[str, list[Point]]]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for run, each in taken:
        samples = tuple(x for x in each.samples if math.isfinite(x) and x > 0)
        if samples:
            own = dict(each.settings)
            model = str(own.pop("model", None) or ""), str(own.pop("model_hash", None) or "")
            settings[text := canonical(own)] = own
            cases = found.setdefault(model, {})
            sides = cases.setdefault((each.name, text, each.unit, each.higher_is_better), {})
            sides.setdefault(each.side, []).append(Point(run, samples, each.noisy, each.notes))
    models = sorted(found, key=lambda model: (model[0] == "", _natural(model[0]), model[1]))
    return tuple(_group(*model, found[model], settings) for model in models)


def _group(
    model: str, model_hash: str, found: Mapping[_Key, Mapping[str, Sequence[Point]]], settings: Mapping[str, Any]
) -> Group:
    cases = []
    for key in sorted(found, key=lambda key: (_natural(key[0]), _natural(key[1]))):
        name, text, unit, higher = key
        namesakes = [settings[other[1]] for other in found if other[0] == name]
        differing = {k: v for k, v in settings[text].items() if k not in _common(namesakes)}
        series = [
            Series(side, tuple(points), find_changes(points, higher_is_better=higher))
            for side, points in sorted(
                found[key].items(), key=lambda item: (item[0] == STOCK, item[0] != PATCHED, item[0])
            )
        ]
        label = ", ".join([name, *(setting(k, v) for k, v in differing.items())])
        cases.append(Case(label, unit, higher, settings[text], tuple(series)))
    runs = {point.run.id: point.run for case in cases for series in case.series for point in series.points}
    common = _common([case.settings for case in cases])
    return Group(model, model_hash, common, tuple(cases), tuple(runs[number] for number in sorted(runs)))


def _common(settings: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    first, *rest = settings
    return {key: value for key, value in first.items() if all(key in each and each[key] == value for each in rest)}


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts 'prefill of 128' before 'prefill of 1024'."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]
