"""Each op at the shapes of four models: ours, mlx-lm's way, and the machine's limit, in turns (``bench/kernels.py``).

A test is one arm of a case; the first of a case measures all its arms together, and each hands its samples over to
pytest-benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.cases import ARMS, Case, default_cases, full_cases
from bench.kernels import Budget, Row, measure


class HandedOver:
    """A clock that stands still but for samples that were taken before."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self._now += seconds


CLOCK = HandedOver()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = full_cases() if metafunc.config.getoption("full") else default_cases()
    arms = [pytest.param(case, arm, id=f"{case.name}-{arm}") for case in cases for arm in ARMS[case.op]]
    metafunc.parametrize(("case", "arm"), arms)


@pytest.mark.benchmark(timer=CLOCK, disable_gc=False)
def test_kernel(benchmark: BenchmarkFixture, case: Case, arm: str, budget: Budget, keep: Callable[[Row], None]) -> None:
    row = measured(case, budget, keep)
    if isinstance(row, AssertionError):
        pytest.fail(f"{case.name} is wrong, so it has no speed: {row}", pytrace=False)
    if arm in row.left_out:
        pytest.skip(row.left_out[arm])
    seconds = iter(row.samples[arm].seconds)
    benchmark.group = case.name
    benchmark.extra_info |= {"name": case.name, "side": arm, "settings": row.settings, **row.limit_note}
    benchmark.pedantic(lambda: CLOCK.advance(next(seconds)), rounds=len(row.samples[arm].seconds))


@lru_cache(maxsize=1)  # tests of one case follow each other
def measured(case: Case, budget: Budget, keep: Callable[[Row], None]) -> Row | AssertionError:
    """The case's row; measured once, kept once."""
    try:
        row = measure(case, budget)
    except AssertionError as error:
        return error
    keep(row)
    return row
