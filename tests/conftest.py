"""Fixtures and settings of all tests."""

from __future__ import annotations

import contextlib
import ctypes
import os

import pytest
from hypothesis import settings

from tests.backends import NeonBackend
from tests.compiled import EMULATES_ARM, why_no_arm
from tests.sim.executor_check import check_program

settings.register_profile("deltamoe", deadline=None, max_examples=15, derandomize="CI" in os.environ)
settings.load_profile("deltamoe")

M_PERTURB = -6


def pytest_configure(config: pytest.Config) -> None:
    """With several workers, the process that gives them their tests compiles Arm programs, once and first."""
    has_workers = getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput")
    if has_workers and EMULATES_ARM and why_no_arm() is None:
        _ = NeonBackend().runner
        check_program(arm=True)


@pytest.fixture(scope="session", autouse=True)
def _poisoned_malloc() -> None:
    """Have glibc fill fresh memory with 0x7f (3.4e38 as a float), so that kernels' scratch memory is poisoned too."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_PERTURB, 0x80)
