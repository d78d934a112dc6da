"""Made-up samples, runners and clocks: nothing here measures time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from deltamoe.track.record import PATCHED, STOCK, Cell, Clocks, Plan
from deltamoe.track.store import Measurement, Run, Store

CELLS = [Cell("prefill", prompt=128), Cell("decode", depth=64, tokens=8, batch=2)]
FACTS = {"model": "tiny", "model_hash": "0", "dtype": "float32", "device": "cpu", "threads": 2}
VERSIONS = {"deltamoe": "0", "mlx": "1", "mlx_lm": "2", "python": "3"}


def plan(rounds: int = 4, sides: tuple[str, ...] = (PATCHED, STOCK)) -> Plan:
    return Plan(CELLS, list(sides), rounds, FACTS)


@dataclass
class Time:
    """Clocks that move when told to."""

    now: float = 1000.0
    wall: float = 5e8

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: self.now, lambda: self.wall)

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


@dataclass
class StandIn:
    """A runner of which each sample takes a second of the stand-in's time."""

    time: Time = field(default_factory=Time)
    speed: Callable[[Cell, str, int], float] = lambda cell, side, number: 100.0 + number
    calls: list[tuple[Cell, str]] = field(default_factory=list)

    def measure(self, cell: Cell, side: str) -> float:
        self.time.pass_(1.0 if side == PATCHED else 3.0)
        self.calls.append((cell, side))
        return self.speed(cell, side, len(self.calls))


def run(revision: str = "aaaa", **changes: object) -> Run:
    given = {"dirty": False, "machine": "m", "machine_facts": {"cpu": "c"}, "versions": VERSIONS, "state": "done"}
    return Run(revision=revision, **{**given, **changes})  # type: ignore[arg-type]


def recorded(
    store: Store,
    revision: str = "aaaa",
    *,
    seed: int = 0,
    speed: float = 1.0,
    machine_speed: float = 1.0,
    scatter: float = 0.02,
    samples: int = 20,
    stock: bool = True,
    **changes: object,
) -> Run:
    """A run in which patched is ``speed`` times as fast as usual, and everything ``machine_speed`` times."""
    rng = np.random.default_rng(seed)
    written = store.add_run(run(revision, **changes))
    for cell in CELLS:
        for side, level in (PATCHED, 400.0 * speed), (STOCK, 50.0):
            if side == PATCHED or stock:
                values = machine_speed * level * rng.lognormal(0, scatter, samples)
                settings = {**FACTS, **cell.settings}
                offsets = np.arange(samples, dtype=float)
                store.add(
                    written, Measurement(cell.name, side, "tok/s", True, settings, values.tolist(), offsets.tolist())
                )
    return written
