"""A small case of each op, with every optional argument, for tests that treat all ops alike."""

from __future__ import annotations

from functools import cache

import mlx.core as mx
import numpy as np

from tests.arrays import BF16, F32, normal
from tests.ops import test_attention, test_gated_delta, test_gated_delta_block, test_moe_experts, test_qlinear
from tests.ops.case import Case

OPS = ("attention", "gated_delta", "gated_delta_block", "moe_experts", "moe_router", "qlinear", "rms_norm")

BATCHED = {
    "attention": ("q", "k", "v", "gate"),
    "gated_delta": ("q", "k", "v", "a", "b", "state", "mask", "lengths"),
    "gated_delta_block": ("qkv", "z", "a", "b", "conv_state", "state", "mask", "lengths"),
    "moe_experts": ("x", "indices", "scores"),
    "moe_router": ("logits",),
    "qlinear": ("x",),
    "rms_norm": ("x",),
}
"""The arguments that carry a batch; the others are parameters of a layer."""


@cache
def small(op: str, dtype: mx.Dtype = F32, steps: int = 6) -> Case:
    """A case of ``op`` over ``steps`` tokens."""
    rng = np.random.default_rng(0)
    padding = {
        "mask": mx.array(np.arange(steps) >= np.array([[0], [2], [1]])),
        "lengths": mx.array([steps, steps - 1, 3]),
    }
    if op == "attention":
        return test_attention.case((2, 4, 2, steps, steps + 5, 32), dtype)
    if op == "gated_delta":
        return Case(op, **test_gated_delta.case((3, steps, 1, 2, 64, 32), dtype).arguments, **padding)
    if op == "gated_delta_block":
        return Case(op, **test_gated_delta_block.case((3, steps, 1, 2, 32, 64), dtype).arguments, **padding)
    if op == "moe_experts":
        return test_moe_experts.case((steps, 5, 3, 64, 32), dtype, BF16, shared="gated")
    if op == "moe_router":
        return Case(op, logits=normal(rng, steps, 20, dtype=dtype, scale=2.0), k=4)
    if op == "qlinear":
        return test_qlinear.case((steps, 24, 64), dtype)
    return Case(op, x=normal(rng, steps, 48, dtype=dtype), weight=normal(rng, 48), eps=1e-6)
