"""How long work takes, by a clock that the work moves on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deltamoe.measure import timing
from deltamoe.measure.timing import seconds_per_unit


class Worker:
    """Work of which the first pieces, until its threads are awake, take twice as long."""

    def __init__(self, cost: float, asleep: float = 0.0, units: float = 1.0) -> None:
        self.now, self.cost, self.asleep, self.units, self.done = 0.0, cost, asleep, units, 0

    def __call__(self) -> float:
        self.now += self.cost * (2 if self.now < self.asleep else 1)
        self.done += 1
        return self.units

    @property
    def clock(self) -> Callable[[], float]:
        return lambda: self.now


def test_waking_is_not_timed() -> None:
    worker = Worker(1e-3, asleep=0.9 * timing.AWAKE)
    assert seconds_per_unit(worker, 5e-3, worker.clock) == pytest.approx(1e-3)
    assert worker.now == pytest.approx(timing.AWAKE + 5e-3, abs=2e-3)


def test_long_work_is_timed_from_its_beginning() -> None:
    worker = Worker(1.0, asleep=0.5)
    assert seconds_per_unit(worker, 4e-3, worker.clock) == pytest.approx(2.0)
    assert worker.done == 1
    worker = Worker(1.0)
    assert seconds_per_unit(worker, 2.5, worker.clock) == pytest.approx(1.0)
    assert worker.done == 3


def test_something_is_timed_even_in_no_time() -> None:
    worker = Worker(1e-3, units=10.0)
    assert seconds_per_unit(worker, 0.0, worker.clock) == pytest.approx(1e-4)
