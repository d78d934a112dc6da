"""How arms are timed: in turns, in an order that a drift of the machine does not favour, slow ones less often."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import mlx.core as mx

from deltamoe.measure import statistics
from deltamoe.measure.order import thue_morse
from deltamoe.measure.statistics import Verdict
from deltamoe.measure.timing import Clock, seconds_per_unit

__all__ = ["Calls", "Samples", "Timed", "compare", "time_arms"]

SAMPLE = 4e-3  # seconds that a sample lasts, at least: far above the clock's and the system's ticks
FEWEST, MOST = 4, 48  # samples of an arm
PAIRS = 8  # fewer samples of the same rounds are compared unpaired: signed ranks of 7 never reach p < 0.01


class Timed(Protocol):
    """An arm."""

    def sample(self, seconds: float, clock: Clock = ...) -> float:
        """Work for about so long; returns the seconds that one unit of it took."""


@dataclass
class Calls:
    """An arm that calls functions in turns and evaluates what they return; a unit is a call."""

    calls: Sequence[Callable[[], Any]]

    def __post_init__(self) -> None:
        self._turns = itertools.cycle(self.calls)

    def sample(self, seconds: float, clock: Clock = time.perf_counter) -> float:
        """Seconds of a call."""
        return seconds_per_unit(self._call, seconds, clock)

    def _call(self) -> float:
        mx.eval(next(self._turns)())
        return 1.0


@dataclass
class Samples:
    """An arm's samples.

    Attributes:
        seconds: of a unit.
        rounds: in which each was taken.
        offsets: when, in seconds since the first arm's first.
    """

    seconds: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)


def time_arms(arms: Mapping[str, Timed], seconds: float, clock: Clock = time.perf_counter) -> dict[str, Samples]:
    """Samples of every arm, interleaved.

    Each arm has an equal share of the time, and takes as many samples as fit, 4 to 48; the first arm says how many
    rounds there are, the others take part in as many of them as they can, spread evenly. Before that each runs once for
    nothing.

    Args:
        arms: by name; the first is the one that matters.
        seconds: for all arms together; more where one call takes longer.
        clock: monotonic, in seconds.
    """
    counts = {}
    for name, arm in arms.items():
        start = clock()
        arm.sample(SAMPLE, clock)
        spent = max(clock() - start, SAMPLE)
        counts[name] = min(MOST, max(FEWEST, int(seconds / len(arms) / spent)))
    rounds = next(iter(counts.values()))
    samples = {name: Samples() for name in arms}
    begin = clock()
    for number, order in enumerate(_by_round(list(arms), rounds)):
        for name in order:
            count = min(counts[name], rounds)
            if number * count // rounds == (number + 1) * count // rounds:
                continue
            samples[name].offsets.append(clock() - begin)
            samples[name].seconds.append(arms[name].sample(SAMPLE, clock))
            samples[name].rounds.append(number)
    return samples


def compare(base: Samples, head: Samples, units: float = 1.0) -> Verdict:
    """How fast head is beside base: of the rounds that both ran in, in pairs, where there are enough of them.

    Args:
        base, head: of the same :func:`time_arms`.
        units: of base's that equal one of head's.
    """
    both = sorted(set(base.rounds) & set(head.rounds))
    paired = len(both) >= PAIRS
    if paired:
        before, after = ([dict(zip(arm.rounds, arm.seconds, strict=True))[n] for n in both] for arm in (base, head))
    else:
        before, after = base.seconds, head.seconds
    scaled = [units * value for value in before]
    return statistics.verdict(scaled, after, higher_is_better=False, paired=paired)


def _by_round(arms: list[str], rounds: int) -> list[list[str]]:
    order = iter(thue_morse(arms, rounds))
    return [list(itertools.islice(order, len(arms))) for _ in range(rounds)]
