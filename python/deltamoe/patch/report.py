"""What ran deltamoe's code and what mlx-lm's, and why."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

__all__ = ["Row", "Status", "forget", "record", "recorded", "tally"]

_calls: Counter[tuple[str, str | None]] = Counter()


def record(part: str, reason: str | None = None) -> None:
    """Count a call of ``part``: by deltamoe, or for ``reason`` by mlx-lm."""
    _calls[part, reason] += 1


def recorded() -> tuple[Row, ...]:
    """The calls counted since :func:`forget`."""
    return tally(_calls)


def forget() -> None:
    _calls.clear()


@dataclass(frozen=True)
class Row:
    """One kind of module (``SparseMoeBlock``) or part of it (``Attention.q_proj``).

    ``deltamoe`` and ``mlx_lm`` count modules where a model was inspected, else calls; ``reasons`` tells how many of the
    latter ran mlx-lm's own code for which reason.
    """

    part: str
    deltamoe: int
    mlx_lm: int
    reasons: dict[str, int]


def tally(counts: Counter[tuple[str, str | None]]) -> tuple[Row, ...]:
    """A row for each part, from how often it ran for which reason (None: deltamoe ran it)."""
    rows = []
    for part in sorted({part for part, _ in counts}):
        reasons = {why: n for (p, why), n in counts.most_common() if p == part and why is not None}
        rows.append(Row(part, counts[part, None], sum(reasons.values()), reasons))
    return tuple(rows)


@dataclass(frozen=True)
class Status:
    """What :func:`deltamoe.status` found; printing it shows a table.

    Attributes:
        patched: whether mlx-lm is patched now.
        device: the default device, ``cpu`` or ``gpu``.
        note: why the patch has no effect, or would have none; or None.
        counted: what the rows count, ``modules`` or ``calls``.
        rows: a row for each kind of module.
    """

    patched: bool
    device: str
    note: str | None
    counted: str
    rows: tuple[Row, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield f"deltamoe: {'patched' if self.patched else 'not patched'}, device {self.device}"
        if self.note is not None:
            yield f"mlx-lm runs its own code: {self.note}"
        if not self.rows:
            yield f"no {self.counted} of a kind that deltamoe covers"
            return
        table = Table(box=None, pad_edge=False)
        table.add_column(self.counted)
        table.add_column("deltamoe", justify="right")
        table.add_column("mlx-lm", justify="right")
        table.add_column("why")
        for row in self.rows:
            table.add_row(row.part, str(row.deltamoe), str(row.mlx_lm), "\n".join(_reasons(row)))
        yield table

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=120, highlight=False, markup=False).print(self)
        return text.getvalue().rstrip()


def _reasons(row: Row) -> Iterable[str]:
    for reason, n in row.reasons.items():
        yield reason if len(row.reasons) == 1 else f"{reason} ({n})"
