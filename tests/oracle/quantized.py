"""MLX's affine quantised layout, unpacked."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Quantized(NamedTuple):
    """``deltamoe.ops.Quantized`` in numpy."""

    weight: np.ndarray
    scales: np.ndarray
    biases: np.ndarray


def dequantize(q: Quantized, columns: int) -> np.ndarray:
    """The matrix ``[..., N, columns]``."""
    bits = q.weight.shape[-1] * 32 // columns
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    codes = (q.weight[..., None] >> shifts) & np.uint32(2**bits - 1)
    groups = codes.reshape(*q.scales.shape, -1).astype(np.float64)
    return (q.scales[..., None] * groups + q.biases[..., None]).reshape(*q.scales.shape[:-1], columns)
