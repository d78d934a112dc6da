"""Oracle of ``deltamoe.ops.qlinear``."""

from __future__ import annotations

import numpy as np

from tests.oracle.quantized import Quantized, dequantize


def qlinear(x: np.ndarray, w: Quantized) -> tuple[np.ndarray]:
    """x @ w.T"""
    return (x @ dequantize(w, x.shape[-1]).T,)
