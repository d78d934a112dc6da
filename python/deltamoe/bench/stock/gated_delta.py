"""The gated delta rule of stock: MLX core's kernel (mx.fast.gated_delta_update) and mlx-lm's, on one sequence.

Both begin with q and k normalised and v, g and beta made, each by dispatches of its own, and leave y as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np
from mlx_lm.models import gated_delta

from deltamoe.bench.simulate import Array, Launch, instantiation
from deltamoe.bench.stock.mlx_lm import capture

__all__ = ["LAYER", "PROJECTIONS", "Inputs", "bits", "core", "core_takes", "gates", "mlx_lm"]

PROJECTIONS = 5
LAYER = {
    "quantized matmul: qkv, z, b, a, out": PROJECTIONS,
    "copy: conv_state, qkv to one array; its last rows to the next conv_state": 3,
    "rms_norm: q, k, y": 3,
    "multiply: scales of q, k": 2,
    "convolution": 1,
    "silu": 1,
    "sigmoid: beta": 1,
    "g": 1,
    "gated delta rule": 1,
    "y silu(z)": 1,
}
"""Dispatches of mlx-lm's GatedDeltaNet with MLX's dispatch rules, at one token of one sequence without a mask."""

TYPE = {mx.float32: "float", mx.float16: "float16_t", mx.bfloat16: "bfloat16_t"}
CORE_HEADS = {(16, 16), (16, 32), (16, 48), (16, 64), (24, 24), (32, 32)}
FEWEST_CORE_HEADS = 16
CORE_CHUNK = 8
"""Except on M5, whose tensor operations the simulator has not."""


@dataclass(frozen=True)
class Inputs:
    """What both kernels begin with."""

    q: mx.array
    k: mx.array
    """[1, T, Hk, Dk]"""
    v: mx.array
    """[1, T, Hv, Dv]"""
    g: mx.array
    beta: mx.array
    """[1, T, Hv]"""
    state: mx.array
    """[1, Hv, Dv, Dk], float32"""


def gates(
    a: mx.array, b: mx.array, A_log: mx.array, dt_bias: mx.array, *, allow_neg_eigval: bool = False
) -> tuple[mx.array, mx.array]:
    """g and beta as mlx-lm makes them: g in float32 of what may be less, beta in the dtype of the activations."""
    beta = mx.sigmoid(b)
    return gated_delta.compute_g(A_log, a, dt_bias), beta * 2.0 if allow_neg_eigval else beta


def core_takes(k_heads: int, v_heads: int, dk: int, dv: int) -> bool:
    """Whether MLX core has a kernel of that shape, and not only ops."""
    return (dk, dv) == (128, 128) and (k_heads, v_heads) in CORE_HEADS


def core(x: Inputs, heads: int | None = None) -> Launch:
    """MLX core's kernel for more than 8 tokens. ``heads``: of the value heads, how many are run."""
    (k_heads, dk), (v_heads, dv) = x.k.shape[2:], x.v.shape[2:]
    dtype = x.q.dtype
    function = "gated_delta_fused_chunk"
    arguments = (TYPE[dtype], dk, dv, k_heads, v_heads, CORE_CHUNK)
    kernel = "_".join(map(str, (function, *arguments)))
    x = replace(x, g=x.g.astype(dtype), beta=x.beta.astype(dtype))
    return Launch(
        kernel,
        instantiation("gated_delta_update.h", kernel, function, *arguments),
        grid=(1, dv // 32, v_heads if heads is None else heads),
        threadgroup=(32, 4, 1),
        buffers=_buffers(x),
        constants={200: False},
    )


def mlx_lm(x: Inputs) -> Launch:
    """mlx-lm's kernel, sequential: 8 rows of a state to a simdgroup where Dk is 128, else one."""
    captured = capture("gated_delta_kernel", x.q, x.k, x.v, x.g, x.beta, x.state)
    width, height, depth = (n // size for n, size in zip(captured.grid, captured.threadgroup, strict=True))
    return Launch(
        captured.kernel,
        '#include "mlx/backend/metal/kernels/utils.h"\n' + captured.source,
        grid=(width, height, depth),
        threadgroup=captured.threadgroup,
        buffers=_buffers(x),
    )


def bits(array: mx.array) -> Array:
    """For numpy, which does not know bfloat16."""
    return np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)


def _buffers(x: Inputs) -> dict[str, Array | np.generic]:
    """By the names that both kernels have for them."""
    inputs = {"q": x.q, "k": x.k, "v": x.v, "g": x.g, "beta": x.beta, "state_in": x.state}
    buffers: dict[str, Array | np.generic] = {name: bits(array) for name, array in inputs.items()}
    outputs = {"y": np.zeros_like(buffers["v"]), "state_out": np.zeros_like(buffers["state_in"])}
    return buffers | outputs | {"T": np.int32(x.q.shape[1])}
