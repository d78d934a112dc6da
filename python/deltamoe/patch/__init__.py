"""The patch of mlx-lm: the same models and calls, with deltamoe's ops inside.

A patch holds for the whole process, all threads. A module that the ops do not cover runs mlx-lm's own code, and
:func:`status` says which and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn

from deltamoe.patch import registry, report
from deltamoe.patch.report import Row, Status

__all__ = ["Row", "Status", "patch", "patched", "status", "unpatch"]


def patch(model: nn.Module | None = None) -> None:
    """Let mlx-lm's Qwen3.5 and Qwen3-Next models run deltamoe's ops.

    Args:
        model: limits it to the modules of this model; called again, it adds another. None means every model.

    Patching what is patched changes nothing. An mlx-lm that deltamoe does not know is left alone.

    Raises:
        TypeError: ``model`` is not an ``mlx.nn.Module``.
    """
    if registry.unavailable() is None:
        scope = registry.EVERYTHING if model is None else registry.Scope.of(model)
        current = registry.current_scope()
        registry.set_scope(scope if current is None else current | scope)


def unpatch() -> None:
    """Give mlx-lm its own functions back, the very same objects."""
    registry.set_scope(None)


@contextmanager
def patched(model: nn.Module | None = None) -> Iterator[None]:
    """:func:`patch` for the length of a ``with`` block; what held before holds again after it."""
    before = registry.current_scope()
    patch(model)
    try:
        yield
    finally:
        registry.set_scope(before)


def status(model: nn.Module | None = None) -> Status:
    """What runs deltamoe's code and what mlx-lm's, and why.

    Args:
        model: its modules are inspected. Without it the calls since :func:`patch` are counted.

    Raises:
        TypeError: ``model`` is not an ``mlx.nn.Module``.
    """
    active = registry.current_scope() is not None
    return Status(
        patched=active,
        device="cpu" if mx.default_device() == mx.cpu else "gpu",
        note=registry.unavailable() or (registry.why_not_here() if active else None),
        counted="calls" if model is None else "modules",
        rows=report.recorded() if model is None else registry.inspect_model(model),
    )
