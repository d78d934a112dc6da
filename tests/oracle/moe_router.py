"""Oracle of ``deltamoe.ops.moe_router``."""

from __future__ import annotations

import numpy as np

from tests.oracle.maths import softmax


def moe_router(logits: np.ndarray, k: int, normalize: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of softmax(logits), ascending by (probability as float32, index).

    A row without a softmax has NaN scores; its indices mean nothing.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    indices = np.zeros((len(rows), k), np.int64)
    scores = np.full((len(rows), k), np.nan)
    for t, row in enumerate(rows):
        if np.isnan(row).any() or not np.isfinite(row.max()):
            continue
        p = softmax(row)
        order = sorted(range(len(row)), key=lambda e: (np.float32(p[e]), e))
        indices[t] = order[-k:]
        chosen = p[indices[t]]
        scores[t] = chosen / chosen.sum() if normalize else chosen
    shape = (*logits.shape[:-1], k)
    return indices.reshape(shape), scores.reshape(shape)
