"""Takes measurements in turns and stores each sample as it comes; free of mlx, so that a stand-in can be measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import psutil

from deltamoe.errors import DeltamoeError
from deltamoe.measure import statistics
from deltamoe.measure.order import thue_morse
from deltamoe.track.store import Measurement, Run, Store

__all__ = [
    "PATCHED",
    "STOCK",
    "Cell",
    "Clocks",
    "Plan",
    "Progress",
    "Runner",
    "is_alive",
    "record",
    "resume",
    "this_process",
]

PATCHED, STOCK = "patched", "stock"
UNIT = "tok/s"
JUMP_SECONDS = 5.0  # the wall clock may differ from the monotonic one by this much before it is worth a word


@dataclass(frozen=True)
class Cell:
    """One thing to measure; lengths are in tokens, of each sequence.

    Attributes:
        kind: ``prefill`` or ``decode``.
        prompt: of a prefill.
        depth: how many tokens precede those that are decoded.
        tokens: how many are decoded.
        batch: how many sequences.
    """

    kind: str
    prompt: int = 0
    depth: int = 0
    tokens: int = 0
    batch: int = 1

    @property
    def name(self) -> str:
        """As a person calls it."""
        what = f"prefill of {self.prompt}" if self.kind == "prefill" else f"decode at {self.depth}"
        return what if self.batch == 1 else f"{what}, batch {self.batch}"

    @property
    def length(self) -> int:
        """How many tokens of all sequences the model sees for a sample."""
        return self.batch * (self.prompt if self.kind == "prefill" else self.tokens + 1)

    @property
    def settings(self) -> dict[str, Any]:
        """The part of a measurement's settings that is the cell's."""
        if self.kind == "prefill":
            return {"kind": self.kind, "prompt": self.prompt, "batch": self.batch}
        return {"kind": self.kind, "depth": self.depth, "tokens": self.tokens, "batch": self.batch}


@dataclass(frozen=True)
class Plan:
    """What a run measures: every cell on every side, ``rounds`` times."""

    cells: list[Cell]
    sides: list[str]
    rounds: int
    facts: dict[str, Any]  # of the model and the machine's settings: part of every measurement's settings

    def order(self) -> list[tuple[Cell, str]]:
        """Round by round all cells, so that each is spread over the whole run, and the sides in turns."""
        turns = thue_morse(self.sides, self.rounds)
        size = len(self.sides)
        return [
            (cell, side)
            for number in range(self.rounds)
            for cell in self.cells
            for side in turns[number * size : (number + 1) * size]
        ]

    def as_json(self) -> dict[str, Any]:
        """For a run's notes."""
        return asdict(self)


@dataclass(frozen=True)
class Progress:
    """Where a recording stands; ``seconds_left`` is None until each cell has run once on each side."""

    done: int
    total: int
    seconds_left: float | None
    next: str


@dataclass(frozen=True)
class Clocks:
    """Seconds: ``monotonic`` measures, ``wall`` is only watched for jumps."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


Callback = Callable[[Progress], None]


class Runner(Protocol):
    """What measures: a model, or a stand-in."""

    def measure(self, cell: Cell, side: str) -> float:
        """One sample, tokens per second."""


def record(
    store: Store,
    run: Run,
    plan: Plan,
    runner: Runner,
    *,
    clocks: Clocks | None = None,
    step: Callback = lambda progress: None,
) -> Run:
    """Take the samples that are missing, each stored before the next is taken.

    Args:
        run: as :meth:`Store.add_run` returned it, or as :func:`resume` did.
        step: called before each sample and once at the end.

    Returns:
        The run, done. Its notes say where a clock jumped or the speed drifted.

    Raises:
        DeltamoeError: the store's; what was measured before is kept, and the run is left ``interrupted``.
        KeyboardInterrupt: likewise.
    """
    clocks = clocks or Clocks()
    taken = {entry.key: entry for entry in store.measurements(run)}
    order = plan.order()
    seconds: dict[tuple[Cell, str], float] = {}
    before = max((entry.offsets[-1] for entry in taken.values() if entry.offsets), default=0.0)
    begin, wall_begin = clocks.monotonic(), clocks.wall()
    seen: dict[tuple[Cell, str], int] = {}
    try:
        for index, (cell, side) in enumerate(order):
            entry = Measurement(cell.name, side, UNIT, True, {**plan.facts, **cell.settings})
            entry = taken.get(entry.key) or taken.setdefault(entry.key, store.add(run, entry))
            seen[cell, side] = number = seen.get((cell, side), 0) + 1
            if number <= len(entry.samples):
                continue  # before the run was interrupted
            step(Progress(index, len(order), _seconds_left(order[index:], seconds), f"{cell.name}, {side}"))
            start = clocks.monotonic()
            sample = runner.measure(cell, side)
            end = clocks.monotonic()
            seconds[cell, side] = end - start
            taken[entry.key] = entry = _with_sample(entry, sample, before + end - begin)
            store.update(entry)
    except BaseException:
        store.finish(run, "interrupted")
        raise
    step(Progress(len(order), len(order), 0.0, ""))
    notes = dict(run.notes)
    jump = (clocks.wall() - wall_begin) - (clocks.monotonic() - begin)
    if abs(jump) > JUMP_SECONDS:
        notes["clock"] = (
            f"the wall clock moved {jump:+.0f} s against the monotonic one: it was set, or the machine slept; the "
            "figures are by the monotonic clock"
        )
    if note := _drift_of(list(taken.values())):
        notes["drift"] = note
    return store.finish(replace(run, notes=notes))


def resume(store: Store, wanted: Run) -> Run:
    """Take up the newest unfinished run of the same plan, code, versions and machine.

    Raises:
        DeltamoeError: there is none, or it is still being recorded.
    """
    unfinished = [run for run in store.runs(machine=wanted.machine) if run.state != "done"]
    for run in reversed(unfinished):
        same = run.notes.get("plan") == wanted.notes["plan"] and run.versions == wanted.versions
        if not (same and (run.revision, run.dirty) == (wanted.revision, wanted.dirty)):
            continue
        if is_alive(run):
            raise DeltamoeError(
                f"run {run.id} is still being recorded, by process {run.notes['process']['pid']}; wait for it"
            )
        return store.finish(replace(run, notes={**run.notes, "process": wanted.notes["process"]}), "running")
    others = ", ".join(f"{run.id} of {run.label}" for run in unfinished)
    raise DeltamoeError(
        "there is no interrupted run of this revision, these versions, this model and these options to go on with"
        + (f" (unfinished on this machine: {others})" if others else "")
        + "; leave --resume out to begin a new one"
    )


def this_process() -> dict[str, Any]:
    """For a run's notes: by whom it is recorded."""
    return {"pid": os.getpid(), "created": psutil.Process().create_time()}


def is_alive(run: Run) -> bool:
    """Whether the process that records the run still does; one that was killed leaves it ``running`` for ever."""
    process = run.notes.get("process")
    if run.state != "running" or process is None:
        return False
    try:
        return bool(psutil.Process(process["pid"]).create_time() == process["created"])
    except psutil.Error:
        return False


def _with_sample(entry: Measurement, sample: float, offset: float) -> Measurement:
    samples = [*entry.samples, sample]
    found = statistics.drift(samples)
    notes = {key: value for key, value in entry.notes.items() if key != "drift"}
    if found.found:
        notes["drift"] = f"{found.change:+.0%} from the first half to the last (p = {found.p:.1g})"
    return replace(
        entry, samples=samples, offsets=[*entry.offsets, offset], noisy=statistics.noisy(samples), notes=notes
    )


def _seconds_left(order: Sequence[tuple[Cell, str]], seconds: dict[tuple[Cell, str], float]) -> float | None:
    """By how long each cell took when it last ran on that side."""
    if any(turn not in seconds for turn in order):
        return None
    return sum(seconds[turn] for turn in order)


def _drift_of(measurements: list[Measurement]) -> str | None:
    """Whether the whole run became slower or faster: all samples, each against its measurement's median, by time."""
    shares = sorted(
        (offset, sample / statistics.summarize(entry.samples).median)
        for entry in measurements
        for offset, sample in zip(entry.offsets, entry.samples, strict=True)
    )
    found = statistics.drift([share for _, share in shares])
    if not found.found:
        return None
    why = "it throttles, or something else runs on it" if found.change < 0 else "something else ran on it at first"
    return (
        f"the machine's speed changed by {found.change:+.0%} from the first half of the run to the last "
        f"(p = {found.p:.1g}): {why}; trust the ratio of patched to stock, not the tokens per second"
    )
