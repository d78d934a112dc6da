"""Numbers as a person reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["MINUS", "TIMES", "Scale", "change", "percent", "scale", "times"]

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "\N{MICRO SIGN}s"), (1e-9, "ns"))


@dataclass(frozen=True)
class Scale:
    """A unit to show values in, ``factor`` of the unit in which they were measured."""

    factor: float
    unit: str

    def number(self, value: float) -> str:
        """Three significant digits, or all digits of larger whole numbers."""
        return _three_digits(value / self.factor)

    def text(self, value: float) -> str:
        """The number with its unit."""
        return f"{self.number(value)} {self.unit}".rstrip()

    def fixed(self, value: float, step: float) -> str:
        """The number with as many decimals as multiples of ``step`` need: for the ticks of an axis."""
        step /= self.factor
        decimals = next((n for n in range(12) if math.isclose(step * 10**n, round(step * 10**n), rel_tol=1e-6)), 12)
        return f"{value / self.factor:,.{decimals}f}"


def scale(value: float, unit: str) -> Scale:
    """How to show values like ``value``: seconds by the unit that suits them, other units as they are."""
    if unit != "s":
        return Scale(1.0, unit)
    return Scale(*next((each for each in SECONDS if value >= each[0]), SECONDS[-1]))


def times(ratio: float) -> str:
    """A ratio: ``2.31x``."""
    return f"{_three_digits(ratio)}{TIMES}"


def percent(share: float) -> str:
    """A share of 1: ``62%``, ``0.4%``."""
    return f"{100 * share:.{1 if share < 0.0995 else 0}f}%"


def change(relative: float) -> str:
    """A relative change with its sign: ``+5.1%``."""
    return f"{'+' if relative >= 0 else MINUS}{_three_digits(100 * abs(relative), most=1)}%"


def _three_digits(value: float, most: int = 12) -> str:
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(float(f"{value:.3g}"))))
    return f"{value:,.{min(max(decimals, 0), most)}f}"
