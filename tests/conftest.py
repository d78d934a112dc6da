"""Fixtures and settings of all tests."""

from __future__ import annotations

import contextlib
import ctypes
import os

import pytest
from hypothesis import settings

from tests.backends import EMULATES_NEON, NeonBackend

settings.register_profile("deltamoe", deadline=None, max_examples=15, derandomize="CI" in os.environ)
settings.load_profile("deltamoe")

M_PERTURB = -6


def pytest_configure(config: pytest.Config) -> None:
    """With several workers, the process that gives them their tests compiles the NEON runner, once and first."""
    has_workers = getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput")
    if has_workers and EMULATES_NEON and NeonBackend.why_not() is None:
        _ = NeonBackend().runner


@pytest.fixture(scope="session", autouse=True)
def _poisoned_malloc() -> None:
    """Have glibc fill fresh memory with 0x7f (3.4e38 as a float), so that kernels' scratch memory is poisoned too."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_PERTURB, 0x80)
