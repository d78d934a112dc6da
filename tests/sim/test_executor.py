"""The executor without Python, on this machine's processor and on 64-bit Arm (context switch, signals, scheduling)."""

from __future__ import annotations

import subprocess

import pytest

from tests.compiled import EMULATES_ARM, command, why_no_arm
from tests.sim.executor_check import check_program

MACHINES = ["arm64", "native"] if EMULATES_ARM else ["native"]


@pytest.mark.parametrize("machine", MACHINES)
def test_kernels_run_and_faults_end_the_launch(machine: str) -> None:
    arm = machine == "arm64"
    if arm and (reason := why_no_arm()):
        pytest.skip(reason)
    done = subprocess.run(command(check_program(arm), arm), capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    assert [line for line in lines if not line.startswith("ok: ")] == []
    assert done.returncode == 0, done.stderr
