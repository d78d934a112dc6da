"""A case: an op, its arguments, and what its oracle says of them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np

from tests import oracle
from tests.arrays import to_oracle
from tests.backends import Backend
from tests.tolerance import assert_close

RESULTS: dict[str, dict[str, str | mx.Dtype]] = {
    "attention": {"y": "q"},
    "gated_delta": {"y": "q", "state": mx.float32},
    "gated_delta_block": {"y": "qkv", "conv_state": "qkv", "state": mx.float32},
    "moe_experts": {"y": "x"},
    "moe_router": {"indices": mx.uint32, "scores": mx.float32},
    "qlinear": {"y": "x"},
    "rms_norm": {"y": "x"},
}
"""Each op's results, with their dtype or the argument that has it."""


class Case:
    """One call of an op."""

    def __init__(self, op: str, **arguments: Any) -> None:
        self.op = op
        self.arguments = arguments

    @cached_property
    def want(self) -> tuple[np.ndarray, ...]:
        """What the oracle says."""
        return getattr(oracle, self.op)(**to_oracle(self.arguments))

    def check(self, backend: Backend, **bars: float) -> tuple[mx.array, ...]:
        """Run the op on ``backend`` and hold every result to the oracle's."""
        results = backend.run(self.op, **self.arguments)
        self.compare(results, **bars)
        return results

    def compare(self, results: tuple[mx.array, ...], **bars: float) -> None:
        """Hold results to the oracle's."""
        assert len(results) == len(RESULTS[self.op])
        for (name, dtype), got, want in zip(RESULTS[self.op].items(), results, self.want, strict=True):
            expected = dtype if isinstance(dtype, mx.Dtype) else self.arguments[dtype].dtype
            assert got.dtype == expected, f"{self.op} {name} is {got.dtype}, expected {expected}"
            if mx.issubdtype(expected, mx.floating):
                assert_close(got, want, f"{self.op} {name}", **bars)
            else:
                assert np.array_equal(np.array(got), want), f"{self.op} {name} differs"
