"""How long work takes for threads that are awake."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["AWAKE", "Clock", "seconds_per_unit"]

Clock = Callable[[], float]

AWAKE = 0.02
"""Seconds of work before time is taken: threads that slept may share a core until the system has spread them."""


def seconds_per_unit(work: Callable[[], float], seconds: float, clock: Clock = time.perf_counter) -> float:
    """Work for a while untimed, then for about ``seconds``.

    Work that at once lasts longer than :data:`AWAKE` is timed from its beginning: waking is no part of it worth naming.

    Args:
        work: does some, and returns how many units of it.
        seconds: to measure.
        clock: monotonic, in seconds.

    Returns:
        Seconds that one unit took.
    """
    start, done = clock(), work()
    spent = clock() - start
    if spent < AWAKE:
        while clock() - start < AWAKE:
            work()
        start, done, spent = clock(), 0.0, 0.0
    while not done or spent < seconds:
        done += work()
        spent = clock() - start
    return spent / done
