"""Stand-ins for the Gated DeltaNet layers."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import ArraysCache
from mlx_lm.models.qwen3_5 import GatedDeltaNet
from mlx_lm.models.qwen3_next import Qwen3NextGatedDeltaNet, Qwen3NextRMSNormGated

from deltamoe import ops
from deltamoe.patch.stand_in import Accepts, Linear, See, StandIn, require

__all__ = ["STAND_INS", "DeltaNet", "FusedDeltaNet"]


class DeltaNet(StandIn):
    """``GatedDeltaNet``: its projections by ``qlinear``, everything between them by ``gated_delta_block``."""

    def __init__(self, module: GatedDeltaNet, see: See) -> None:
        require(see(module, "sharding_group") is None, "sharded")
        require(not see(module, "_training"), "training mode")
        self._k_heads, self._k_dim = see(module, "num_k_heads"), see(module, "head_k_dim")
        self._v_heads, self._v_dim = see(module, "num_v_heads"), see(module, "head_v_dim")
        require(_fits(self._k_dim) and _fits(self._v_dim), f"head dims {self._k_dim} and {self._v_dim}")

        conv = see(module, "conv1d")
        require(type(conv) is nn.Conv1d, f"conv1d: {type(conv).__name__} is not Conv1d")
        require(see(conv, "bias") is None, "conv1d has a bias")
        self._conv_weight = see(conv, "weight")
        channels = 2 * self._k_heads * self._k_dim + self._v_heads * self._v_dim
        plain = (conv.groups, conv.stride, conv.padding, conv.dilation) == (channels, 1, 0, 1)
        taps = self._conv_weight.shape[1]
        require(plain and self._conv_weight.shape == (channels, taps, 1), "conv1d is not depthwise and causal")
        require(2 <= taps <= 8, f"conv1d has {taps} taps")

        norm = see(module, "norm")
        require(type(norm) is Qwen3NextRMSNormGated, f"norm: {type(norm).__name__} is not Qwen3NextRMSNormGated")
        self._norm_weight, self._norm_eps = see(norm, "weight"), see(norm, "eps")
        self._A_log, self._dt_bias = see(module, "A_log"), see(module, "dt_bias")
        self._accepts = Accepts.by(self._conv_weight, self._norm_weight)

        self._read_projections(module, see)
        self._out_proj = Linear(see, module, "out_proj")

    def _read_projections(self, module: Any, see: See) -> None:
        self._qkv, self._z, self._b, self._a = (
            Linear(see, module, f"in_proj_{name}") for name in ("qkv", "z", "b", "a")
        )

    def _project(self, x: mx.array) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        """qkv ``[B, T, C]``, z ``[B, T, Hv, Dv]``, a and b ``[B, T, Hv]``."""
        z = self._z(x).reshape(*x.shape[:-1], self._v_heads, self._v_dim)
        return self._qkv(x), z, self._a(x), self._b(x)

    def __call__(self, inputs: mx.array, mask: mx.array | None = None, cache: Any = None) -> mx.array:
        require(mask is None, "padded batch (mask)")
        conv_state = state = None
        if cache is not None:
            require(type(cache) is ArraysCache, f"{type(cache).__name__} is not ArraysCache")
            require(cache.lengths is None, "padded batch (lengths)")
            conv_state, state = cache[0], cache[1]
            require(conv_state is None or conv_state.dtype == inputs.dtype, "conv state of another dtype")
            require(state is None or state.dtype == mx.float32, "DeltaNet state is not float32")
        self._accepts.check(inputs)
        qkv, z, a, b = self._project(inputs)  # lazy: costs nothing if it is not used
        same = all(projected.dtype == inputs.dtype for projected in (qkv, z, a, b))
        require(same, "projections of another dtype than their input")

        y, conv_state, state = ops.gated_delta_block(
            qkv,
            z,
            a,
            b,
            self._conv_weight,
            self._A_log,
            self._dt_bias,
            self._norm_weight,
            conv_state,
            state,
            num_k_heads=self._k_heads,
            norm_eps=self._norm_eps,
        )
        if cache is not None:
            cache[0], cache[1] = conv_state, state
            cache.advance(inputs.shape[1])
        return self._out_proj(y.flatten(-2))


class FusedDeltaNet(DeltaNet):
    """``Qwen3NextGatedDeltaNet``: the same with q, k, v, z and b, a interleaved by key head in two projections."""

    def _read_projections(self, module: Qwen3NextGatedDeltaNet, see: See) -> None:
        self._qkvz, self._ba = Linear(see, module, "in_proj_qkvz"), Linear(see, module, "in_proj_ba")

    def _project(self, x: mx.array) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        rows = x.shape[:-1]
        group = self._v_heads // self._k_heads
        qkvz = self._qkvz(x).reshape(*rows, self._k_heads, -1)
        ba = self._ba(x).reshape(*rows, self._k_heads, -1)
        k_at, v_at = self._k_dim, 2 * self._k_dim
        q, k, v, z = mx.split(qkvz, [k_at, v_at, v_at + group * self._v_dim], axis=-1)
        b, a = mx.split(ba, [group], axis=-1)
        qkv = mx.concatenate([q.flatten(-2), k.flatten(-2), v.flatten(-2)], axis=-1)
        return qkv, z.reshape(*rows, self._v_heads, self._v_dim), a.flatten(-2), b.flatten(-2)


def _fits(head_dim: int) -> bool:
    return head_dim % 32 == 0 and 0 < head_dim <= 256


STAND_INS: dict[Any, type[StandIn]] = {GatedDeltaNet: DeltaNet, Qwen3NextGatedDeltaNet: FusedDeltaNet}
