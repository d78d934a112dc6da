"""The program that runs the executor by itself: executor_check.cpp."""

from __future__ import annotations

from pathlib import Path

from tests.compiled import ROOT, program


def check_program(arm: bool) -> Path:
    """tests/sim/executor_check.cpp with the executor's sources."""
    folder = ROOT / "csrc/sim"
    return program(
        "executor_check",
        sources=[ROOT / "tests/sim/executor_check.cpp", *sorted(set(folder.glob("*.cpp")) - {folder / "bindings.cpp"})],
        headers=sorted(folder.glob("*.h")),
        flags=["-O1"],
        arm=arm,
    )
