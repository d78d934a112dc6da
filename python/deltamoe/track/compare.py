"""Whether one revision is slower than another, by what both left in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy import stats

from deltamoe.errors import DeltamoeError
from deltamoe.measure.machine import PACKAGE, git
from deltamoe.measure.statistics import Kind, Summary, Verdict, noisy, summarize, verdict
from deltamoe.track.record import STOCK
from deltamoe.track.store import Measurement, Run, Store, canonical

__all__ = ["Report", "Row", "compare", "find_runs", "ratios", "short_side", "show"]

STOCK_VERSIONS = "mlx", "mlx_lm", "python"  # what stock's speed depends on


@dataclass(frozen=True)
class Row:
    """One measurement of both revisions, or the ratio of two of its sides.

    Attributes:
        side: as recorded, or such as ``patched / stock``.
        machine: fingerprint.
        judged: whether its verdict counts. Where stock ran beside patched, with the same mlx and mlx-lm in base and
            head, the ratio of both is judged: what befell the machine between the two recordings cancels in it.
        noisy: whether the samples of base or of head were.
    """

    name: str
    side: str
    unit: str
    machine: str
    settings: dict[str, Any]
    base: Summary
    head: Summary
    verdict: Verdict
    judged: bool
    noisy: bool


@dataclass(frozen=True)
class Report:
    """A comparison: the rows, and which runs they come from."""

    base: list[Run]
    head: list[Run]
    rows: list[Row]
    warnings: list[str]

    @property
    def losses(self) -> list[Row]:
        """Judged rows with a confirmed slowdown over the threshold."""
        return [row for row in self.rows if row.judged and row.verdict.is_loss]


def find_runs(store: Store, name: str) -> list[Run]:
    """The runs a person means.

    Args:
        name: a run's id; or a revision: the beginning of its hash as stored, or what git makes of it (a branch, a tag,
            ``HEAD~3``). A revision stands for runs of exactly its files; ``NAME+dirty`` for those with changed files.

    Raises:
        DeltamoeError: no run, or runs of several revisions.
    """
    runs = store.runs()
    if name.isdecimal() and (found := [run for run in runs if run.id == int(name)]):
        return found
    wanted, plus, _ = name.partition("+dirty")
    found = [run for run in runs if wanted and run.revision.startswith(wanted)]
    if not found and (
        revision := git(PACKAGE, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{wanted}^{{commit}}")
    ):
        found = [run for run in runs if run.revision == revision]
    if len(revisions := {run.revision for run in found}) > 1:
        raise DeltamoeError(f"{name} is the beginning of {len(revisions)} revisions; write more of it")
    matching = [run for run in found if run.dirty == bool(plus)]
    if not matching:
        hint = ""
        if found:
            label = wanted if plus else f"{wanted}+dirty"
            hint = f" (of {label} there are: {', '.join(str(run.id) for run in found)})"
        raise DeltamoeError(
            f"{store.path} has no run {name}{hint}; record one with deltamoe track record, or see deltamoe track runs"
        )
    return matching


def compare(store: Store, base: Sequence[Run], head: Sequence[Run], threshold: float) -> Report:
    """Compare what both sets of runs measured on the same machine with the same settings.

    The samples of several runs of a set are taken together. The p-values of the judged rows are adjusted for their
    number (Benjamini and Hochberg), so that many rows do not make a false alarm likely.

    Args:
        threshold: the relative slowdown that is a loss, such as 0.03.

    Raises:
        DeltamoeError: nothing matches.
    """
    before, after = _collect(store, base), _collect(store, head)
    common = [key for key in before if key in after]
    if not common:
        raise DeltamoeError(_why_nothing_matches(before, after))
    stocks = {tuple(run.versions.get(name) for name in STOCK_VERSIONS) for run in (*base, *head)}
    rows = []
    for key in common:
        ours, theirs = before[key], after[key]
        found = verdict(ours.samples, theirs.samples, threshold, higher_is_better=ours.higher_is_better)
        judged = _is_judged(key, before.keys() & after.keys(), len(stocks) == 1)
        rows.append(
            Row(
                name=ours.name,
                side=ours.side,
                unit=ours.unit,
                machine=key.machine,
                settings=ours.settings,
                base=summarize(ours.samples),
                head=summarize(theirs.samples),
                verdict=found,
                judged=judged,
                noisy=ours.noisy or theirs.noisy,
            )
        )
    rows = sorted(_adjusted(rows), key=lambda row: (row.machine, row.settings.get("model", ""), row.name, row.side))
    return Report(list(base), list(head), rows, list(_warnings(base, head, rows, len(stocks) == 1)))


def ratios(entries: Sequence[Measurement]) -> Iterator[Measurement]:
    """Of a run's measurements: speeds as multiples of stock's in the same round, where stock ran beside.

    A slow stock runs in fewer rounds than a kernel: each of its samples stands beside the median of those around it.
    """
    stock = {(entry.name, canonical(entry.settings)): entry for entry in entries if entry.side == STOCK}
    for entry in entries:
        control = stock.get((entry.name, canonical(entry.settings)))
        if control is None or entry.side == STOCK:
            continue
        samples, count = entry.samples, len(control.samples)
        if 0 < count < len(samples) - 1:  # by one less, the last round is unfinished
            samples = [float(np.median(part)) for part in np.array_split(samples, count)]
        pairs = zip(samples, control.samples, strict=False)
        ratios = [ours / theirs if entry.higher_is_better else theirs / ours for ours, theirs in pairs]
        yield replace(
            entry, side=f"{entry.side} / {STOCK}", unit="x", higher_is_better=True, samples=ratios, noisy=noisy(ratios)
        )


def show(report: Report, console: Console) -> None:
    """Print the table, the warnings and the outcome."""
    for title, runs in ("base", report.base), ("head", report.head):
        for run in runs:
            console.print(f"{title}: run {run.id}, {run.label}, {run.started}", highlight=False, markup=False)
    table = Table("", "side", "base", "head", "head / base", "verdict", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:5]:
        column.justify, column.no_wrap = "right", True
    table.columns[1].justify = "left"
    table.columns[5].min_width = len(Kind.NO_EVIDENCE)
    styles = {Kind.FASTER: "green", Kind.SLOWER: "red", Kind.NO_EVIDENCE: ""}
    several = len({row.settings.get("model") for row in report.rows}) > 1
    title = ""
    for row in report.rows:
        found = row.verdict
        model = f"{row.settings['model']}, " if several and "model" in row.settings else ""
        before, title = title, f"{model}{row.name}"
        words = [found.kind] if row.judged else []
        table.add_row(
            Text("" if title == before else title),
            Text(short_side(row.side)),
            *(f"{row.base.median:.4g}", f"{row.head.median:.4g} {row.unit}"),
            f"{found.ratio:.3f} ({found.low:.3f}-{found.high:.3f})",
            Text("\n".join([*words, "noisy"] if row.noisy else words), styles[found.kind] if row.judged else ""),
            style=None if row.judged else "dim",
        )
    console.print(table)
    console.print(
        "Medians; the ratio of both in speed, with its 95% interval. Only rows with a verdict are judged.", style="dim"
    )
    for warning in report.warnings:
        console.print(f"Note: {warning}.", style="yellow", markup=False, highlight=False)
    threshold = report.rows[0].verdict.threshold
    if losses := report.losses:
        worst = min(losses, key=lambda row: row.verdict.ratio)
        console.print(
            f"{len(losses)} confirmed slowdown{'s' * (len(losses) > 1)} of more than {threshold:.0%}; the worst: "
            f"{worst.name}, {worst.side}, {1 - worst.verdict.ratio:.1%} slower",
            style="bold red",
            highlight=False,
        )
    else:
        console.print(f"No confirmed slowdown of more than {threshold:.0%}.", highlight=False)


class _Key(NamedTuple):
    """What must be equal for two measurements to be compared."""

    name: str
    side: str
    settings: str
    machine: str


def _collect(store: Store, runs: Sequence[Run]) -> dict[_Key, Measurement]:
    """The measurements of the runs and the ratios of their sides, samples of all runs together."""
    found: dict[_Key, Measurement] = {}
    for run in runs:
        entries = [entry for entry in store.measurements(run) if entry.samples]
        for entry in [*entries, *ratios(entries)]:
            key = _Key(*entry.key, run.machine)
            if before := found.get(key):
                entry = replace(entry, samples=[*before.samples, *entry.samples], noisy=before.noisy or entry.noisy)
            found[key] = entry
    return found


def short_side(side: str) -> str:
    """A ratio stands below its side."""
    return f"  / {STOCK}" if side.endswith(f" / {STOCK}") else side


def _is_judged(key: _Key, keys: AbstractSet[_Key], same_stock: bool) -> bool:
    if key.side == STOCK:
        return False
    if key.side.endswith(f" / {STOCK}"):
        return same_stock
    return not (same_stock and key._replace(side=f"{key.side} / {STOCK}") in keys)


def _adjusted(rows: list[Row]) -> list[Row]:
    judged = [row for row in rows if row.judged]
    values = iter(stats.false_discovery_control([row.verdict.p for row in judged]) if judged else ())
    return [replace(row, verdict=replace(row.verdict, p=float(next(values)))) if row.judged else row for row in rows]


def _warnings(base: Sequence[Run], head: Sequence[Run], rows: Sequence[Row], same_stock: bool) -> Iterator[str]:
    for run in (*base, *head):
        if run.state != "done":
            yield f"run {run.id} is not complete: what it has is compared"
        for note in "drift", "clock":
            if note in run.notes:
                yield f"run {run.id}: {run.notes[note]}"
    if not same_stock:
        yield (
            f"{', '.join(STOCK_VERSIONS)} are not the same in all runs, so stock is no measure of the machine and each "
            "side is judged by itself"
        )
    moved = [row for row in rows if row.side == STOCK and row.verdict.kind is not Kind.NO_EVIDENCE]
    if same_stock and moved:
        speeds = [row.verdict.ratio for row in moved]
        times = " to ".join(dict.fromkeys(f"{speed:.2f}" for speed in (min(speeds), max(speeds))))
        yield (
            f"stock itself ran at {times} times its speed: the machine changed between the runs; the "
            "ratios to stock are judged, in which that cancels"
        )


def _why_nothing_matches(before: dict[_Key, Measurement], after: dict[_Key, Measurement]) -> str:
    text = "base and head have no measurement in common: "
    if not before or not after:
        return text + f"{'head' if before else 'base'} has none at all; record it again, or go on with --resume"
    for field, what in ("machine", "machine"), ("name", "name of what was measured"):
        if not {getattr(key, field) for key in before} & {getattr(key, field) for key in after}:
            return text + f"no {what} is the same; record both on one machine with the same options"
    one, other = next(
        (before[a].settings, after[b].settings) for a in before for b in after if (a.name, a.side) == (b.name, b.side)
    )
    differing = sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
    changes = ", ".join(f"{key} {one.get(key)} and {other.get(key)}" for key in differing)
    return text + f"they differ in {changes}; record both with the same"
