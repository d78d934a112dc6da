"""What the reports of all commands have in common."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from deltamoe.errors import DeltamoeError
from deltamoe.synthetic import GEOMETRIES

__all__ = ["Bar", "bar", "full_name", "tokens_in_words"]

_SIGNS = {"<": operator.lt, "<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Bar:
    """A condition of ours."""

    case: str
    what: str
    figure: float
    condition: str
    holds: bool | None
    """None: cannot be told."""


def bar(case: str, what: str, figure: float, condition: str, *, judged: bool = True) -> Bar:
    """One of which the condition, as in ``<= 1``, says whether it holds."""
    sign, limit = condition.split()
    return Bar(case, what, figure, condition, bool(_SIGNS[sign](figure, float(limit))) if judged else None)


def full_name(geometry: str) -> str:
    """The key of ``GEOMETRIES`` that begins so.

    Raises:
        DeltamoeError: there is none, or more than one.
    """
    names = [name for name in GEOMETRIES if name.startswith(geometry)]
    if len(names) != 1:
        raise DeltamoeError(f"unknown geometry {geometry!r}; choose one of {', '.join(GEOMETRIES)}")
    return names[0]


def tokens_in_words(n: int) -> str:
    """``1 token``, ``2 tokens``"""
    return f"{n:,} token{'s' * (n != 1)}"
