"""What the simulator finds and what it raises."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnostic:
    """A finding about a source file, at the line the user wrote."""

    file: str
    line: int
    column: int
    message: str
    rule: str
    """`compile` for the compiler's errors, else the name of the lint rule."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message} [{self.rule}]"


@dataclass(frozen=True)
class Report:
    """A finding of a run. Further ones of the same kind at the same place are counted, not kept."""

    kind: str
    """out-of-bounds, uninitialised-read, threadgroup-race, device-race, divergent-barrier, divergent-simd-op,
    shuffle-from-inactive-lane, threadgroup-memory-limit, write-to-constant, misaligned or division-by-zero."""
    message: str
    file: str
    line: int
    function: str
    threadgroup: tuple[int, int, int]
    simdgroup: int
    lane: int
    count: int

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 else ""
        where = f"threadgroup {self.threadgroup}, simdgroup {self.simdgroup}, lane {self.lane}"
        return f"{self.file}:{self.line}: {self.kind}: {self.message}{times} [{self.function}; {where}]"


class SimError(Exception):
    """Base of all errors of the simulator."""


class CompileError(SimError):
    """A shader that does not compile."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        self.diagnostics = diagnostics
        super().__init__("\n".join(str(d) for d in diagnostics))


class LaunchError(SimError, ValueError):
    """A launch that cannot be: unknown kernel, missing buffer, wrong size or dtype, a limit of Metal exceeded."""


class KernelFault(SimError, RuntimeError):
    """A kernel that crashed or did not end in time. The arrays are as they were, but for outputs: they are poisoned."""

    def __init__(self, message: str, reports: tuple[Report, ...] = ()) -> None:
        self.reports = reports
        """What was found before."""
        super().__init__("\n".join([message, *map(str, reports)]))
