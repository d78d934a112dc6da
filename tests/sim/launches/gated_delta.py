"""The gated delta rule, MLX's kernels and mlx-lm's."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from deltamoe.bench.stock.mlx_lm import capture
from tests import oracle
from tests.arrays import F32, normal, numpy_of
from tests.sim.launches.launch import TYPE, Launch, Result, instantiate


def gated_delta_inputs(
    rng: np.random.Generator, dtype: mx.Dtype, steps: int, k_heads: int, v_heads: int, width: int, d_v: int
) -> dict[str, mx.array]:
    """q and k of length one, decays near one, gates between 0 and 1, and a state."""

    def unit(*shape: int) -> mx.array:
        x = rng.standard_normal(shape)
        return mx.array((x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)).astype(dtype)

    def between(low: float, high: float) -> mx.array:
        return mx.array(rng.uniform(low, high, (1, steps, v_heads)).astype(np.float32))

    return {
        "q": unit(1, steps, k_heads, width),
        "k": unit(1, steps, k_heads, width),
        "v": normal(rng, 1, steps, v_heads, d_v, dtype=dtype),
        "g": between(0.9, 0.99),
        "beta": between(0.1, 0.9).astype(dtype),
        "state_in": normal(rng, 1, v_heads, d_v, width, scale=0.1),
    }


def gated_delta_want(inputs: dict[str, mx.array]) -> tuple[np.ndarray, np.ndarray]:
    """The oracle takes logits where the kernels take g = exp(-softplus(a)) and beta = sigmoid(b)."""
    q, k, v, g, beta, state = (numpy_of(x) for x in inputs.values())
    heads = np.zeros(v.shape[2])
    return oracle.gated_delta(q, k, v, np.log(1 / g - 1), -np.log(1 / beta - 1), heads, heads, state)


def gated_delta_update(rng: np.random.Generator, dtype: mx.Dtype, *, chunked: bool, steps: int) -> Launch:
    """MLX's own kernels, one token or one chunk of eight at a time, for 16 heads of keys and 32 of values.

    The first two heads are launched, and of the sequential one's 128 rows of each state the first 16.
    """
    k_heads, v_heads, width, chunk = 16, 32, 128, 8 if chunked else 1
    kernel = f"{'gated_delta_fused_chunk' if chunked else 'seq_gated_delta'}_{TYPE[dtype]}_128_128_16_32_{chunk}"
    inputs = gated_delta_inputs(rng, dtype, steps, k_heads, v_heads, width, width)
    inputs["g"] = inputs["g"].astype(dtype)
    heads, rows = 2, 128 if chunked else 16
    y, state = gated_delta_want(
        {
            "q": inputs["q"][:, :, :1],
            "k": inputs["k"][:, :, :1],
            "v": inputs["v"][:, :, :heads, :rows],
            "g": inputs["g"][:, :, :heads],
            "beta": inputs["beta"][:, :, :heads],
            "state_in": inputs["state_in"][:, :heads, :rows],
        }
    )
    return Launch(
        kernel,
        grid=(1, rows // 32 if chunked else rows // 4, heads),
        threadgroup=(32, 4, 1),
        buffers=inputs | {"T": np.int32(steps)} | ({} if chunked else {"state_cache": np.zeros(1, np.float32)}),
        results={
            "y": Result(dtype, y, shape=(1, steps, v_heads, width)),
            "state_out": Result(F32, state, shape=(1, v_heads, width, width)),
        },
        source=instantiate(
            "gated_delta_update.h",
            kernel,
            *("gated_delta_fused_chunk" if chunked else "gated_delta_seq", TYPE[dtype], 128, 128, 16, 32, chunk),
        ),
        constants={200: False},
    )


def mlx_lm_gated_delta(
    rng: np.random.Generator, dtype: mx.Dtype, *, variant: str, steps: int, width: int, d_v: int
) -> Launch:
    """mlx-lm's kernels: ``gated_delta_kernel`` is packed, ``.._unpacked`` one row of a state to a simdgroup."""
    inputs = gated_delta_inputs(rng, dtype, steps, 1, 2, width, d_v)
    captured = capture(f"gated_delta_kernel{variant}", *inputs.values())
    y, state = gated_delta_want(inputs)
    x, y_, z = (n // size for n, size in zip(captured.grid, captured.threadgroup, strict=True))
    return Launch(
        captured.kernel,
        grid=(x, y_, z),
        threadgroup=captured.threadgroup,
        buffers=inputs | {"T": np.int32(steps)},
        results={"y": Result(dtype, y), "state_out": Result(F32, state)},
        source='#include "mlx/backend/metal/kernels/utils.h"\n' + captured.source,
    )
