"""The order of arms."""

from __future__ import annotations

import numpy as np
import pytest

from deltamoe.measure.order import thue_morse


def test_two_arms_follow_the_sequence() -> None:
    assert "".join(thue_morse("AB", 8)) == "ABBABAABBAABABBA"


@pytest.mark.parametrize("arms", ["A", "AB", "ABC", "ABCD"])
def test_each_round_has_each_arm_once(arms: str) -> None:
    order = thue_morse(arms, 20)
    rounds = [tuple(order[i : i + len(arms)]) for i in range(0, len(order), len(arms))]
    assert all(sorted(each) == sorted(arms) for each in rounds)


@pytest.mark.parametrize("arms", ["AB", "ABC"])
def test_polynomial_drift_cancels(arms: str) -> None:
    """Over the square of the number of arms in rounds, straight and curved drifts are the same for each."""
    order = np.array(thue_morse(arms, len(arms) ** 2))
    places = np.arange(len(order))
    for power in 1, 2:
        sums = {int((places[order == arm] ** power).sum()) for arm in arms}
        assert len(sums) == 1, f"power {power}"


def test_no_rounds() -> None:
    assert thue_morse("AB", 0) == []
