"""What the tests of ``gated_delta`` and of ``gated_delta_block`` on Metal share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.backends import Backend
from tests.ops import test_gated_delta, test_gated_delta_block
from tests.ops.case import Case

SEQUENTIAL = 0
KERNELS = [pytest.param(chunk, id=f"chunk{chunk}" if chunk else "sequential") for chunk in (SEQUENTIAL, 16, 32, 64)]
"""As ``chunk`` of SimulatedMetal."""

PER_TOKEN = {*test_gated_delta.PER_TOKEN, *test_gated_delta_block.PER_TOKEN}


def masked(case: Case, keep: np.ndarray) -> Case:
    """The same under a mask."""
    return Case(case.op, **case.arguments, mask=mx.array(keep))


def spoilt(case: Case, keep: np.ndarray) -> dict[str, Any]:
    """The arguments, NaN wherever a token is not kept."""
    return {
        name: mx.where(mx.array(keep).reshape(*keep.shape, *[1] * (value.ndim - 2)), value, float("nan"))
        if name in PER_TOKEN
        else value
        for name, value in case.arguments.items()
    }


def in_pieces(backend: Backend, whole: Case, pieces: Sequence[int]) -> tuple[mx.array, ...]:
    """The results of one call after another, each of which is given the last one's states."""
    arguments = dict(whole.arguments)
    states = [name for name in ("conv_state", "state") if name in arguments]
    parts, start = [], 0
    for steps in pieces:
        tokens = {name: arguments[name][:, start : start + steps] for name in PER_TOKEN & arguments.keys()}
        y, *carried = backend.run(whole.op, **arguments | tokens)
        arguments |= dict(zip(states, carried, strict=True))
        parts.append(y)
        start += steps
    return mx.concatenate(parts, axis=1), *(arguments[name] for name in states)
