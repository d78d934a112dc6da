"""Arms of a comparison of ours with others' code, in one process whose thread pools must not meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.rounds import Calls, Samples, compare, time_arms
from deltamoe.errors import DeltamoeError
from deltamoe.measure.statistics import Verdict
from deltamoe.measure.timing import AWAKE, Clock

__all__ = ["Arm", "Timing", "measure", "settle"]

LOOK = 5e-3  # seconds between looks at whether threads still run
IDLE = 0.05  # of one core: less than that is no spinning thread
LONGEST = 1.0  # seconds to wait for that


@dataclass
class Arm:
    """One way to do it.

    Attributes:
        calls: do the same on different data, one after the other.
        error: of a result, relative to float64.
        most_error: with which it is still right.
        moved: bytes that a call must at least read and write; 0 where that says nothing.
        before: comes before each sample, untimed; a sample is one call then.
    """

    name: str
    calls: Sequence[Callable[[], object]]
    error: float
    most_error: float
    moved: float = 0.0
    before: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        self._calls = Calls(self.calls)

    def sample(self, seconds: float, clock: Clock = time.perf_counter) -> float:
        """Seconds of a call."""
        settle()
        if self.before is None:
            return self._calls.sample(seconds, clock)
        start = clock()
        while True:
            self.before()
            begin = clock()
            self.calls[0]()
            end = clock()
            if end - start > AWAKE:
                return end - begin


def settle() -> None:
    """Wait until no thread of this process runs: OpenMP's spin for 10 ms after a graph, and take a core from ours."""
    for _ in range(round(LONGEST / LOOK)):
        before = time.process_time()
        time.sleep(LOOK)
        if time.process_time() - before < IDLE * LOOK:
            return


@dataclass(frozen=True)
class Timing:
    """What was measured of an arm."""

    name: str
    error: float
    moved: float
    samples: Samples

    def beside(self, ours: Timing) -> Verdict:
        """Our speed over this one's."""
        return compare(self.samples, ours.samples)


def measure(arms: Sequence[Arm], seconds: float, clock: Clock = time.perf_counter) -> tuple[Timing, ...]:
    """Time all arms in turns, for about so long together; the first is ours.

    Raises:
        DeltamoeError: an arm whose result is wrong: no speed is given for it, nor for what it is compared with.
    """
    for arm in arms:
        if not arm.error <= arm.most_error:
            raise DeltamoeError(f"{arm.name}: error {arm.error:.2g} is above {arm.most_error:g}; no speed is given")
    samples = time_arms({arm.name: arm for arm in arms}, seconds, clock)
    return tuple(Timing(arm.name, arm.error, arm.moved, samples[arm.name]) for arm in arms)
