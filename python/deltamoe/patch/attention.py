"""Stand-in for the gated softmax attention."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models import qwen3_next
from mlx_lm.models.cache import KVCache

from deltamoe import ops
from deltamoe.patch.report import record
from deltamoe.patch.stand_in import Linear, Norm, See, StandIn, require

__all__ = ["STAND_INS", "GatedAttention"]


class GatedAttention(StandIn):
    """``Qwen3NextAttention``: projections, norms and the attention itself; rope and the cache stay mlx-lm's."""

    def __init__(self, module: qwen3_next.Qwen3NextAttention, see: See) -> None:
        require(not see(module, "_training"), "training mode")
        self._heads = see(module, "num_attention_heads")
        self._kv_heads = see(module, "num_key_value_heads")
        self._scale = see(module, "scale")
        self._fits = module.head_dim % 16 == 0 and module.head_dim <= 512
        self._part = f"{type(module).__name__}.scaled_dot_product_attention"
        self._rope = see(module, "rope")
        self._q, self._k, self._v, self._o = (Linear(see, module, f"{name}_proj") for name in "qkvo")
        self._q_norm, self._k_norm = Norm(see, module, "q_norm"), Norm(see, module, "k_norm")

    def __call__(self, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        B, T, _ = x.shape
        queries, gate = mx.split(self._q(x).reshape(B, T, self._heads, -1), 2, axis=-1)
        gate = gate.reshape(B, T, -1)
        keys = self._k(x).reshape(B, T, self._kv_heads, -1)
        values = self._v(x).reshape(B, T, self._kv_heads, -1).transpose(0, 2, 1, 3)
        queries = self._q_norm(queries).transpose(0, 2, 1, 3)
        keys = self._k_norm(keys).transpose(0, 2, 1, 3)

        if cache is not None:
            queries = self._rope(queries, offset=cache.offset)
            keys = self._rope(keys, offset=cache.offset)
            keys, values = cache.update_and_fetch(keys, values)
        else:
            queries, keys = self._rope(queries), self._rope(keys)

        reason = self._own_attention(queries, keys, values, gate, mask, cache)
        if reason is None:
            y = ops.attention(queries, keys, values, self._scale, gate, causal=mask is not None)
        else:
            record(self._part, reason)
            y = qwen3_next.scaled_dot_product_attention(
                queries, keys, values, cache=cache, scale=self._scale, mask=mask
            )
            y = y.transpose(0, 2, 1, 3).reshape(B, T, -1) * mx.sigmoid(gate)
        return self._o(y)

    def _own_attention(
        self, queries: mx.array, keys: Any, values: Any, gate: mx.array, mask: Any, cache: Any
    ) -> str | None:
        """Why mlx-lm's own attention must run, or None."""
        if not (cache is None or type(cache) is KVCache):  # its keys may be quantised, rotated or padded
            return f"{type(cache).__name__} is not KVCache"
        if not (mask is None or (isinstance(mask, str) and mask == "causal")):
            return "padded batch (mask)"
        if not self._fits:
            return f"head dim {queries.shape[-1]}"
        if not queries.dtype == keys.dtype == values.dtype == gate.dtype:
            return "queries, keys, values and gate of several dtypes"
        return None


STAND_INS: dict[Any, type[StandIn]] = {qwen3_next.Qwen3NextAttention: GatedAttention}
