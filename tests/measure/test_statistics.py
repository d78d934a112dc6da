"""Verdicts on made-up samples: how often they find a planted slowdown, and how often they cry wolf."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from deltamoe.measure import power
from deltamoe.measure.statistics import Kind, Verdict, drift, noisy, summarize, verdict

Array = np.ndarray
Draw = Callable[[np.random.Generator, int], Array]

TRIALS = 40
SAMPLES = 40


def _even(rng: np.random.Generator, count: int) -> Array:
    """Scatter of 3%."""
    return 100 * rng.lognormal(0, 0.03, count)


def _stalls(rng: np.random.Generator, count: int) -> Array:
    """Scatter of 2%, and one sample in ten at a third of the speed."""
    return 100 * rng.lognormal(0, 0.02, count) * np.where(rng.random(count) < 0.1, 0.3, 1.0)


def _wandering(rng: np.random.Generator, count: int) -> Array:
    """A machine that halves and doubles its speed by the minute: only pairs can tell."""
    level = np.repeat(rng.choice([1.0, 1.6], count // 5 + 1), 5)[:count]
    return 100 * level


def test_summary() -> None:
    short = summarize([5, 1, 3, 2, 4])
    assert (short.median, short.n) == (3, 5)
    assert short.low <= short.median <= short.high
    assert short.cv == pytest.approx(np.std([1, 2, 3, 4, 5], ddof=1) / 3)


def test_summary_is_the_same_each_time() -> None:
    samples = np.random.default_rng(9).lognormal(0, 0.3, 40)
    assert len({summarize(samples) for _ in range(4)}) == 1


def test_summary_of_one_sample() -> None:
    short = summarize([2.5])
    assert (short.median, short.low, short.high, short.n) == (2.5, 2.5, 2.5, 1)
    assert math.isnan(short.cv)


def test_the_interval_of_the_median_holds_it_as_often_as_said() -> None:
    rng = np.random.default_rng(1)
    found = [summarize(rng.lognormal(0, 0.1, 30)) for _ in range(300)]
    share = np.mean([short.low <= 1 <= short.high for short in found])
    assert 0.91 <= share <= 0.98


@pytest.mark.parametrize("samples", [[], [1, math.nan], [1, math.inf], [1, 0], [-1]])
@pytest.mark.parametrize("function", [summarize, drift, lambda samples: verdict(samples, [1, 2])])
def test_samples_that_are_none(function: Callable[[list[float]], object], samples: list[float]) -> None:
    with pytest.raises(ValueError, match="sample"):
        function(samples)


@pytest.mark.parametrize("draw", [_even, _stalls])
@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_planted_slowdown_of_five_percent_is_found(draw: Draw, higher_is_better: bool) -> None:
    rng = np.random.default_rng(2)
    power = 1 if higher_is_better else -1
    found = [
        verdict(draw(rng, SAMPLES) ** power, (0.95 * draw(rng, SAMPLES)) ** power, higher_is_better=higher_is_better)
        for _ in range(TRIALS)
    ]
    assert np.mean([each.is_loss for each in found]) >= 0.95
    assert np.median([each.ratio for each in found]) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("draw", [_even, _stalls])
def test_without_one_there_is_no_alarm(draw: Draw) -> None:
    rng = np.random.default_rng(3)
    found = [verdict(draw(rng, SAMPLES), draw(rng, SAMPLES)) for _ in range(5 * TRIALS)]
    assert np.mean([each.is_loss for each in found]) <= 0.005
    assert np.mean([each.kind is Kind.NO_EVIDENCE for each in found]) >= 0.98


def test_pairs_see_through_a_machine_that_wanders() -> None:
    rng = np.random.default_rng(4)
    for slow in 1.0, 0.95:
        losses = []
        for _ in range(TRIALS):
            machine = _wandering(rng, SAMPLES)
            base, head = machine * rng.lognormal(0, 0.02, SAMPLES), slow * machine * rng.lognormal(0, 0.02, SAMPLES)
            losses.append(verdict(base, head, paired=True).is_loss)
        assert np.mean(losses) >= 0.95 if slow < 1 else not any(losses)


def test_a_gain_is_faster_and_no_loss() -> None:
    rng = np.random.default_rng(5)
    found = verdict(_even(rng, SAMPLES), 1.1 * _even(rng, SAMPLES))
    assert found.kind is Kind.FASTER
    assert not found.is_loss
    assert found.low < 1.1 < found.high


def test_a_slowdown_within_the_threshold_is_no_loss() -> None:
    rng = np.random.default_rng(6)
    found = verdict(rng.lognormal(0, 0.005, SAMPLES), 0.98 * rng.lognormal(0, 0.005, SAMPLES), 0.03)
    assert found.kind is Kind.SLOWER
    assert not found.is_loss
    assert verdict(rng.lognormal(0, 0.005, SAMPLES), 0.98 * rng.lognormal(0, 0.005, SAMPLES), 0.01).is_loss


@pytest.mark.parametrize("paired", [True, False])
def test_few_samples_are_no_evidence(paired: bool) -> None:
    """However far they lie apart: chance does that."""
    assert verdict([100.0, 101], [50.0, 51], paired=paired).kind is Kind.NO_EVIDENCE
    assert verdict([100.0], [50.0], paired=paired).kind is Kind.NO_EVIDENCE


@pytest.mark.parametrize("paired", [True, False])
def test_equal_samples_are_no_evidence(paired: bool) -> None:
    found = verdict([100.0] * 20, [100.0] * 20, paired=paired)
    assert (found.kind, found.ratio) == (Kind.NO_EVIDENCE, 1.0)


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="2 samples of base and 3 of head"):
        verdict([1, 2], [1, 2, 3], paired=True)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([100, 101, 99, 100, 100.5], False),
        ([100, 101, 99, 100, 300, 99, 100, 101], False),  # one stall does not move the median
        ([100, 130, 70, 110, 90], True),
        ([100, 100], True),
        ([100], True),
    ],
)
def test_noisy(samples: list[float], expected: bool) -> None:
    assert noisy(samples) is expected


def test_drift_of_a_machine_that_throttles() -> None:
    rng = np.random.default_rng(7)
    steady = rng.lognormal(0, 0.02, 30)
    assert not drift(steady).found
    found = drift(steady * np.linspace(1.0, 0.8, 30))
    assert found.found
    assert found.change == pytest.approx(-0.11, abs=0.03)
    step = drift(steady * np.where(np.arange(30) < 15, 1.0, 0.7))
    assert step.found
    assert step.change == pytest.approx(-0.3, abs=0.03)


def test_drift_is_seldom_seen_where_there_is_none() -> None:
    rng = np.random.default_rng(8)
    assert sum(drift(rng.lognormal(0, 0.05, 20)).found for _ in range(400)) <= 8


@pytest.mark.parametrize("samples", [[1.0], [1.0, 2.0], [3.0] * 10])
def test_no_drift_in_few_or_equal_samples(samples: list[float]) -> None:
    assert not drift(samples).found


def test_the_table_of_power(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(power, "TRIALS", 20)
    monkeypatch.setattr(power, "SAMPLES", (5, 20))
    monkeypatch.setattr(power, "SCATTERS", (0.02,))
    power.main()
    assert "20 (0)" in capsys.readouterr().out
    assert power.losses(0.95, 5, 0.05) < 10


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (0.85, 0.95, 0.001, Kind.SLOWER),
        (1.05, 1.15, 0.001, Kind.FASTER),
        (0.85, 1.05, 0.001, Kind.NO_EVIDENCE),
        (0.95, 1.15, 0.001, Kind.NO_EVIDENCE),
        (0.85, 0.95, 0.02, Kind.NO_EVIDENCE),
        (0.85, 0.95, math.nan, Kind.NO_EVIDENCE),
    ],
)
def test_interval_and_test_must_agree(low: float, high: float, p: float, expected: Kind) -> None:
    assert Verdict((low + high) / 2, low, high, p).kind is expected
