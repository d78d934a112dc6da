"""Cases of ``moe_experts`` that the tests of the decode and of the prefill shaders share."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from tests.arrays import normal, quantized
from tests.ops.case import Case
from tests.ops.test_moe_experts import Shape, case, routed


def uniform(shape: Shape, dtype: mx.Dtype, bits: int = 4, group: int = 64, shared: str = "gated") -> Case:
    """One whose matrices all have one format."""
    return case(shape, dtype, dtype, bits, group, shared)


def mixed(tokens: int, dtype: mx.Dtype) -> Case:
    """gate and up agree; down, the shared expert's three, its width and its gate need not."""
    rng = np.random.default_rng(1)
    gate_up: dict[str, Any] = {"bits": 8, "group": 32, "dtype": dtype}
    return Case(
        "moe_experts",
        x=normal(rng, tokens, 128, dtype=dtype),
        **routed(rng, (tokens,), 5, 2),
        gate=quantized(rng, 5, 64, 128, **gate_up),
        up=quantized(rng, 5, 64, 128, **gate_up),
        down=quantized(rng, 5, 128, 64, bits=4, group=64, dtype=dtype),
        shared=(
            quantized(rng, 192, 128, bits=4, group=128, dtype=dtype),
            quantized(rng, 192, 128, bits=4, group=128, dtype=dtype),
            quantized(rng, 128, 192, bits=8, group=32, dtype=dtype),
        ),
        shared_gate=quantized(rng, 1, 128, bits=8, group=64, dtype=dtype),
    )
