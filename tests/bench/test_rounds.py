"""The order and number of samples, and what they say, with arms and a clock that are made up."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import pytest

from bench import rounds
from bench.rounds import Calls, Samples, compare, time_arms


class Clock:
    """Stands still unless it is told otherwise."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Arm:
    """Takes ``cost`` seconds a sample, and says what ``value`` makes of the time; writes down when it ran."""

    def __init__(self, clock: Clock, cost: float, log: list[str], name: str, value: Callable[[float], float]) -> None:
        self.clock, self.cost, self.log, self.name, self.value = clock, cost, log, name, value

    def sample(self, seconds: float, clock: object = None) -> float:
        self.log.append(self.name)
        self.clock.now += max(seconds, self.cost)
        return self.value(self.clock.now)


def timed(seconds: float, **costs: float) -> tuple[dict[str, Samples], list[str]]:
    """Samples of arms of these costs, which all take 1 s a call, and the order in which they ran."""
    clock, log = Clock(), list[str]()
    arms = {name: Arm(clock, cost, log, name, lambda _: 1.0) for name, cost in costs.items()}
    samples = time_arms(arms, seconds, clock)
    return samples, log[len(arms) :]


def test_each_arm_runs_once_a_round_and_takes_turns_in_going_first() -> None:
    samples, log = timed(100.0, a=0.01, b=0.01)
    assert len(samples["a"].seconds) == rounds.MOST == len(samples["b"].seconds)
    pairs = ["".join(log[i : i + 2]) for i in range(0, len(log), 2)]
    assert pairs[:8] == ["ab", "ba", "ba", "ab", "ba", "ab", "ab", "ba"]
    assert samples["a"].rounds == list(range(rounds.MOST))


def test_the_time_is_shared_and_a_slow_arm_runs_less_often() -> None:
    samples, _ = timed(1.0, ours=0.02, limit=0.005, stock=5.0)
    assert len(samples["ours"].seconds) == len(samples["limit"].seconds) == 16  # a third of a second each
    assert samples["stock"].rounds == [3, 7, 11, 15]


def test_few_rounds_where_the_first_arm_is_slow() -> None:
    samples, _ = timed(1.0, ours=3.0, limit=0.005)
    assert {name: len(arm.seconds) for name, arm in samples.items()} == {"ours": 4, "limit": 4}


def test_offsets_are_of_the_monotonic_clock() -> None:
    samples, _ = timed(1.0, a=0.1, b=0.1)
    offsets = sorted([*samples["a"].offsets, *samples["b"].offsets])
    assert offsets == pytest.approx([0.1 * i for i in range(10)])


def test_what_slows_both_arms_down_cancels() -> None:
    clock, log = Clock(), list[str]()
    arms = {
        "head": Arm(clock, 0.01, log, "head", lambda now: 1.05 * (1 + now**2)),
        "base": Arm(clock, 0.01, log, "base", lambda now: 1 + now**2),
    }
    samples = time_arms(arms, 1.0, clock)
    assert max(samples["base"].seconds) > 1.5 * min(samples["base"].seconds)
    found = compare(samples["base"], samples["head"])
    assert found.ratio == pytest.approx(1 / 1.05, abs=2e-3)
    assert found.is_loss


def test_samples_of_other_rounds_are_no_pairs() -> None:
    base = Samples([1.0, 9.0, 1.0, 9.0, 1.0, 9.0, 1.0, 9.0], list(range(8)))
    head = Samples([2.0, 2.0, 18.0, 18.0, 2.0, 18.0, 2.0, 18.0], [8, 0, 1, 3, 4, 5, 6, 7])
    assert compare(base, head).ratio == pytest.approx(0.5)


def test_few_common_rounds_are_compared_without_pairs() -> None:
    base = Samples([500.0, 510.0, 490.0, 505.0], [0, 4, 8, 12])
    head = Samples([1.0 + 0.001 * i for i in range(16)], list(range(16)))
    found = compare(base, head)
    assert found.ratio == pytest.approx(500, rel=0.02)
    assert found.kind == "faster"


@pytest.mark.parametrize("common", range(4, 12))
def test_no_number_of_rounds_hides_a_winner(common: int) -> None:
    base = Samples([20.0 + 0.01 * i for i in range(common)], [4 * i for i in range(common)])
    head = Samples([1.0 + 0.001 * i for i in range(48)], list(range(48)))
    assert compare(base, head).kind == "faster"


def test_units_of_a_limit_make_a_call() -> None:
    per_byte, call = Samples([1e-9] * 8, list(range(8))), Samples([2e-3] * 8, list(range(8)))
    assert compare(per_byte, call, units=1e6).ratio == pytest.approx(0.5)


def test_calls_take_turns() -> None:
    clock, seen = Clock(), list[int]()

    def call(number: int) -> Callable[[], mx.array]:
        def run() -> mx.array:
            seen.append(number)
            clock.now += 0.25
            return mx.array(number)

        return run

    arm = Calls([call(number) for number in range(3)])
    assert arm.sample(0.75, clock) == 0.25
    assert arm.sample(0.5, clock) == 0.25
    assert seen == [0, 1, 2, 0, 1]
