"""The order in which the arms of a comparison run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["thue_morse"]

Arm = TypeVar("Arm")


def thue_morse(arms: Sequence[Arm], rounds: int) -> list[Arm]:
    """Each arm once a round, in an order that a drift of the machine hardly favours.

    Two arms run in the order of the Thue-Morse sequence, A B, B A, B A, A B, ...: over 2^k rounds both arms' places
    have the same sum, the same sum of squares and so on up to the power k, so a drift that is a polynomial of that
    degree cancels. More arms run in rotations, by the sum of the round's digits to the base of their number: the same
    sequence with more letters.

    Args:
        arms: what to run.
        rounds: how many rounds.

    Returns:
        ``len(arms) * rounds`` arms.
    """
    order: list[Arm] = []
    for number in range(rounds):
        first = _digit_sum(number, len(arms)) % len(arms) if len(arms) > 1 else 0
        order += [*arms[first:], *arms[:first]]
    return order


def _digit_sum(number: int, base: int) -> int:
    total = 0
    while number:
        number, digit = divmod(number, base)
        total += digit
    return total
