"""Stand-ins for what holds the blocks together: the decoder layer's norms and the output projection."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models import qwen3_5, qwen3_next

from deltamoe.patch.stand_in import Linear, Norm, See, StandIn, TiedLinear, require

__all__ = ["STAND_INS", "Decoder", "Head"]


class Decoder(StandIn):
    """``DecoderLayer``: the same calls, with the two norms by ``rms_norm``."""

    def __init__(self, module: qwen3_5.DecoderLayer | qwen3_next.Qwen3NextDecoderLayer, see: See) -> None:
        require(not see(module, "_training"), "training mode")
        self._mixer = see(module, "linear_attn" if see(module, "is_linear") else "self_attn")
        self._mlp = see(module, "mlp")
        self._before, self._between = (
            Norm(see, module, "input_layernorm"),
            Norm(see, module, "post_attention_layernorm"),
        )

    def __call__(self, x: mx.array, mask: mx.array | str | None = None, cache: Any = None) -> mx.array:
        x = x + self._mixer(self._before(x), mask, cache)
        return x + self._mlp(self._between(x))


class Head(StandIn):
    """A language model with its output projection by ``qlinear``; the text model below it is called as it is.

    The one norm that stays mlx-lm's is that text model's last: its ``__call__`` builds the masks and runs pipelines.
    """

    def __init__(self, module: qwen3_5.TextModel | qwen3_next.Model, see: See) -> None:
        require(see(module, "sharding_group") is None, "sharded")
        require(not see(module, "_training"), "training mode")
        self._model = see(module, "model")
        if see(module, "args").tie_word_embeddings:
            self._project: Linear = TiedLinear(see, self._model, "embed_tokens")
        else:
            self._project = Linear(see, module, "lm_head")

    def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
        return self._project(self._model(*args, **kwargs))


STAND_INS: dict[Any, type[StandIn]] = {
    qwen3_5.DecoderLayer: Decoder,
    qwen3_next.Qwen3NextDecoderLayer: Decoder,
    qwen3_5.TextModel: Head,
    qwen3_next.Model: Head,
}
