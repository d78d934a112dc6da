"""The shaders under faults/: each has one fault and a repaired twin, or is right; faults/README.md describes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FAULTS = Path(__file__).parent / "faults"

RUN_KINDS = {
    "deadlock",
    "device-race",
    "divergent-barrier",
    "divergent-simd-op",
    "division-by-zero",
    "misaligned",
    "out-of-bounds",
    "shuffle-from-inactive-lane",
    "threadgroup-memory-limit",
    "threadgroup-race",
    "uninitialised-read",
    "write-to-constant",
}
"""Findings of a run; all others are the compiler's or the lint's."""

DEFAULT_BUFFERS = {"x": "float32[256]", "y": "float32[256] output", "staging": "float32[256] output", "n": "uint32 = 3"}

Array = npt.NDArray[Any]
Places = dict[str, set[int]]


@dataclass
class Case:
    """A shader and what its comments say of it."""

    name: str
    text: str
    twin: bool
    """The repaired one: compiled with FIXED defined, and to be found clean."""
    grid: int = 4
    threadgroup: int = 64
    grid_in_threads: bool = False
    timeout: float = 10.0
    buffers: dict[str, str] = field(default_factory=lambda: dict(DEFAULT_BUFFERS))
    threadgroup_memory: dict[int, int] = field(default_factory=dict)
    expected: Places = field(default_factory=dict)
    """Kind -> lines, one of which is to be reported."""
    allowed: Places = field(default_factory=dict)
    runs: bool = False
    """Worth running; otherwise the fault is the compiler's or the lint's to find."""

    @property
    def due_at_run_time(self) -> Places:
        return {kind: lines for kind, lines in self.expected.items() if kind in RUN_KINDS}

    @property
    def due_before(self) -> Places:
        return {kind: lines for kind, lines in self.expected.items() if kind not in RUN_KINDS}

    @property
    def path(self) -> Path:
        return FAULTS / f"{self.name}.metal"

    @property
    def defines(self) -> dict[str, str]:
        return {"FIXED": "1"} if self.twin else {}

    def __str__(self) -> str:
        return f"{self.name}-fixed" if self.twin else self.name

    def assert_found(self, due: Places, found: set[tuple[str, int]], listing: str) -> None:
        """Every kind that is due is found in one of its lines, and nothing that is not foreseen."""
        for kind, lines in due.items():
            assert {line for k, line in found if k == kind} & lines, f"no {kind} in line {sorted(lines)}:\n{listing}"
        for kind, line in found:
            foreseen = self.expected.get(kind, set()) | self.allowed.get(kind, set())
            assert line in foreseen, f"{kind} in line {line} is no fault:\n{listing}"


def read_case(path: Path, twin: bool) -> Case:
    """Parses a shader's comments."""
    case = Case(str(path.relative_to(FAULTS).with_suffix("")), path.read_text(), twin)
    marked: Places = {}
    for number, line in enumerate(case.text.splitlines(), 1):
        if header := re.match(r"// (launch|timeout|buffer \w+|threadgroup memory \d+): (.*)", line):
            read_header(case, *header.groups())
        if mark := re.search(r"// (?:expect: ([^;]*))?(?:; )?(?:allow: (.*))?$", line):
            for kind in (mark[1] or "").split(", "):
                marked.setdefault(kind, set()).add(number)
            for kind in (mark[2] or "").split(", "):
                anywhere = set(range(1, 1000)) if mark.start() == 0 else {number}
                case.allowed.setdefault(kind, set()).update(anywhere)
    marked.pop("", None)
    case.runs = path.parent.name == "clean" or bool(marked.keys() & RUN_KINDS)
    if twin:
        case.allowed = {}
    else:
        case.expected = marked
    return case


def read_header(case: Case, key: str, value: str) -> None:
    """One line of a shader's head: `key: value`."""
    match key.split():
        case ["launch"]:
            groups_or_threads, size = map(int, re.findall(r"\d+", value))
            case.grid, case.threadgroup, case.grid_in_threads = groups_or_threads, size, "threads," in value
        case ["timeout"]:
            case.timeout = float(value)
        case ["buffer", name]:
            case.buffers[name] = value
        case ["threadgroup", "memory", index]:
            case.threadgroup_memory[int(index)] = int(value.split()[0])


def make_buffer(spec: str, rng: np.random.Generator) -> Array | np.generic:
    """`float32[256]` (random, in [0, 1)), `uint32[4] = 0 1 2 3` (repeated as needed), `uint32 = 3` (a scalar)."""
    parsed = re.fullmatch(r"(\w+?)(?:\[(\d+)\])?(?: = (.*)| output)?", spec)
    assert parsed, f"not a buffer: {spec}"
    dtype, size, values = parsed.groups()
    brain = dtype == "bfloat16"
    if values is None:
        floats = rng.random(int(size), np.float32)
        return (floats.view(np.uint32) >> 16).astype(np.uint16) if brain else floats.astype(dtype)
    given = np.array(values.split(), np.float64).astype(dtype)
    return np.resize(given, int(size)) if size else given[0]


def all_cases() -> Iterator[Case]:
    for path in sorted(FAULTS.rglob("*.metal")):
        yield read_case(path, twin=False)
        if "FIXED" in path.read_text():
            yield read_case(path, twin=True)


CASES = list(all_cases())
