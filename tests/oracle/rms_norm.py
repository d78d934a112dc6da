"""Oracle of ``deltamoe.ops.rms_norm``."""

from __future__ import annotations

import numpy as np


def rms_norm(x: np.ndarray, weight: np.ndarray | None, eps: float) -> tuple[np.ndarray]:
    """x / sqrt(mean(x^2) + eps) * weight"""
    y = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return (y if weight is None else y * weight,)
