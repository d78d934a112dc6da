"""What every test of the patch relies on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import deltamoe


@pytest.fixture(autouse=True)
def _unpatched() -> Iterator[None]:
    """No test starts from, or leaves behind, a patched mlx-lm."""
    deltamoe.unpatch()
    yield
    deltamoe.unpatch()
