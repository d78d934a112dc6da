"""Oracle of ``deltamoe.ops.moe_experts``."""

from __future__ import annotations

import numpy as np

from tests.oracle.maths import sigmoid, silu
from tests.oracle.quantized import Quantized, dequantize


def moe_experts(
    x: np.ndarray,
    indices: np.ndarray,
    scores: np.ndarray,
    gate: Quantized,
    up: Quantized,
    down: Quantized,
    shared: tuple[Quantized, Quantized, Quantized] | None = None,
    shared_gate: Quantized | None = None,
) -> tuple[np.ndarray]:
    """The weighted sum of the chosen experts, plus the shared one."""
    width = x.shape[-1]
    experts = [dequantize(gate, width), dequantize(up, width), dequantize(down, gate.weight.shape[-2])]
    tokens = x.reshape(-1, width)
    k = indices.shape[-1]
    y = np.zeros_like(tokens)
    for t, (chosen, weights) in enumerate(zip(indices.reshape(-1, k), scores.reshape(-1, k), strict=True)):
        for e, weight in zip(chosen, weights, strict=True):
            y[t] += weight * mlp(tokens[t], *(w[e] for w in experts))
    if shared is not None:
        inner = shared[0].weight.shape[-2]
        part = mlp(tokens, dequantize(shared[0], width), dequantize(shared[1], width), dequantize(shared[2], inner))
        if shared_gate is not None:
            part *= sigmoid(tokens @ dequantize(shared_gate, width).T)
        y += part
    return (y.reshape(x.shape),)


def mlp(x: np.ndarray, gate: np.ndarray, up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """down @ (silu(gate @ x) * (up @ x))"""
    return (silu(x @ gate.T) * (x @ up.T)) @ down.T
