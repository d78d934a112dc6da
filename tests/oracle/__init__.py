"""One oracle per op: float64 numpy, naive, written from the mathematics in ``deltamoe.ops`` and from nothing else.

An oracle takes what its op takes, as numpy arrays: reals as float64 holding exactly the values that the op sees,
codes as uint32. It returns a tuple of float64 (or integer) arrays.
"""

from tests.oracle.attention import attention
from tests.oracle.gated_delta import gated_delta
from tests.oracle.gated_delta_block import gated_delta_block
from tests.oracle.moe_experts import moe_experts
from tests.oracle.moe_router import moe_router
from tests.oracle.qlinear import qlinear
from tests.oracle.quantized import Quantized, dequantize
from tests.oracle.rms_norm import rms_norm

__all__ = [
    "Quantized",
    "attention",
    "dequantize",
    "gated_delta",
    "gated_delta_block",
    "moe_experts",
    "moe_router",
    "qlinear",
    "rms_norm",
]
