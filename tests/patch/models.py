"""Small models of mlx-lm's own classes, quantised by its own rule, and ways to run them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from importlib import import_module
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import quantize_model

import deltamoe

KINDS = ("qwen3_5", "qwen3_5_moe", "qwen3_next")
VOCABULARY = 256
SHAPE = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": VOCABULARY,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 64,
    "linear_conv_kernel_dim": 4,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
EXPERTS = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 128,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [1],  # qwen3_next alone reads it: one dense layer among the sparse ones
    "norm_topk_prob": True,
}
ROPE = {
    "qwen3_next": {"rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    "qwen3_5": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}},
}


def build(
    kind: str,
    *,
    dtype: mx.Dtype = mx.float32,
    seed: int = 0,
    bits: int | None = 4,
    group_size: int = 64,
    mode: str = "affine",
    **config: Any,
) -> nn.Module:
    """A model in evaluation mode; ``bits`` None leaves it unquantised. ``config`` overrides its configuration."""
    arch = import_module(f"mlx_lm.models.{kind}")
    shape = SHAPE | (EXPERTS if kind != "qwen3_5" else {}) | ROPE.get(kind, ROPE["qwen3_5"]) | config
    shape = shape if kind == "qwen3_next" else {"text_config": {"model_type": kind, **shape}}
    mx.random.seed(seed)
    model = arch.Model(arch.ModelArgs.from_dict({"model_type": kind, **shape}))
    for name, norm in model.named_modules():  # weights other than the initial ones, so that a norm left out is seen
        if "norm" in name and "weight" in norm:
            norm.weight = mx.random.uniform(0.5, 1.5, norm.weight.shape)
        if "dt_bias" in norm:
            norm.dt_bias = mx.random.normal(norm.dt_bias.shape)
    model.set_dtype(dtype)
    if bits is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            quantize_model(model, {}, group_size, bits, mode=mode)
    model.eval()
    mx.eval(model.parameters())
    return model


def layers_of(model: nn.Module, part: str) -> list[Any]:
    """The ``part`` (``mlp``, ``self_attn``, ``linear_attn``) of each layer that has one."""
    return [layer[part] for layer in model.layers if part in layer]


def tokens(*shape: int, seed: int = 1) -> mx.array:
    """Random token ids."""
    return mx.random.randint(0, VOCABULARY, shape, key=mx.random.key(seed))


def prefill_and_decode(model: nn.Module, cache: list[Any] | None = None) -> list[mx.array]:
    """Logits of a prompt in two chunks and then of three single tokens, and the caches' contents after them."""
    cache = make_prompt_cache(model) if cache is None else cache
    logits = [model(tokens(1, size, seed=i), cache=cache) for i, size in enumerate((7, 5, 1, 1, 1))]
    mx.eval(logits)
    return logits + contents(cache)


def contents(cache: list[Any]) -> list[mx.array]:
    """The arrays of a prompt cache, only as far as they are in use."""
    arrays = []
    for entry in cache:
        arrays += entry.cache if hasattr(entry, "cache") else entry.keys_and_values()
    return arrays


def both(run: Callable[[], Any]) -> tuple[Any, Any]:
    """What ``run`` returns under stock mlx-lm, and patched."""
    stock = run()
    mx.eval(stock)
    with deltamoe.patched():
        ours = run()
        mx.eval(ours)
    return stock, ours


def share(part: str, model: nn.Module | None = None) -> tuple[int, int, list[str]]:
    """How often deltamoe and mlx-lm ran ``part`` (or run it in ``model``), and mlx-lm's reasons."""
    for row in deltamoe.status(model).rows:
        if row.part == part:
            return row.deltamoe, row.mlx_lm, list(row.reasons)
    return 0, 0, []
