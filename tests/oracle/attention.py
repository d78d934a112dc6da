"""Oracle of ``deltamoe.ops.attention``."""

from __future__ import annotations

import numpy as np

from tests.oracle.maths import sigmoid, softmax


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, gate: np.ndarray | None = None, *, causal: bool = True
) -> tuple[np.ndarray]:
    """softmax(scale * q k^T) v * sigmoid(gate), one head at a time."""
    batch, heads, steps, width = q.shape
    kv_heads, keys = k.shape[1:3]
    future = np.arange(keys) > np.arange(keys - steps, keys)[:, None]
    y = np.zeros((batch, steps, heads, width))
    for i in range(batch):
        for h in range(heads):
            shared_head = h // (heads // kv_heads)
            scores = scale * q[i, h] @ k[i, shared_head].T
            if causal:
                scores[future] = -np.inf
            y[i, :, h] = softmax(scores) @ v[i, shared_head]
    merged = y.reshape(batch, steps, heads * width)
    return (merged if gate is None else merged * sigmoid(gate),)
