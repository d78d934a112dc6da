"""A model directory of mlx-lm's as a GGUF file of llama.cpp's: the same numbers.

MLX's affine 4-bit weights, w = scale * code + bias in groups of 64, are ggml's Q4_1 in blocks of 32 with scale and bias
twice: nothing is rounded where both fit a float16, which is checked. What differs is the order of value heads: MLX has
those of a key head together, ggml has them apart (head i has key head i % key heads).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, quants

from deltamoe.errors import DeltamoeError
from deltamoe.synthetic import BITS, FULL_ATTENTION_INTERVAL, GROUP_SIZE

__all__ = ["write_gguf"]

Array = np.ndarray[Any, Any]
Kind = GGMLQuantizationType
BLOCK = 32

NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.out_proj": "ssm_out",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.conv1d": "ssm_conv1d",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.switch_mlp.gate_proj": "ffn_gate_exps",
    "mlp.switch_mlp.up_proj": "ffn_up_exps",
    "mlp.switch_mlp.down_proj": "ffn_down_exps",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
}
"""Of a layer's modules."""
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
FLOAT = {"ffn_gate_inp", "ffn_gate_inp_shexp"}
"""What MLX has in 8 bits and llama.cpp in float32."""


def write_gguf(model: Path, file: Path, kind: Kind) -> None:
    """Write the GGUF file.

    Args:
        model: a directory that ``deltamoe.synthetic.write_model`` wrote.
        kind: Q4_1 keeps every number; others are quantised anew by the gguf package (Q4_0, Q8_0).

    Raises:
        DeltamoeError: scales or biases that do not fit a float16.
    """
    config = json.loads((model / "config.json").read_text())["text_config"]
    writer = GGUFWriter(str(file), MODEL_ARCH_NAMES[MODEL_ARCH.QWEN35MOE])
    _settings(writer, config)
    parameters: dict[str, mx.array] = {}
    for shard in sorted(model.glob("*.safetensors")):
        parameters |= cast(dict[str, mx.array], mx.load(str(shard)))
    for name in sorted(parameters):
        module, _, leaf = name.removeprefix("language_model.").rpartition(".")
        if leaf in ("scales", "biases"):
            continue
        parts = (
            [parameters[name.removesuffix("weight") + part] for part in ("scales", "biases")]
            if (name.removesuffix("weight") + "scales" in parameters)
            else []
        )
        _tensor(writer, config, kind, module, leaf, parameters[name], parts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _settings(writer: GGUFWriter, config: dict[str, Any]) -> None:
    rope = config["rope_parameters"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(round(config["head_dim"] * rope["partial_rotary_factor"]))
    writer.add_rope_dimension_sections([*rope["mrope_section"], 0])
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
    writer.add_ssm_conv_kernel(config["linear_conv_kernel_dim"])
    writer.add_ssm_state_size(config["linear_key_head_dim"])
    writer.add_ssm_group_count(config["linear_num_key_heads"])
    writer.add_ssm_time_step_rank(config["linear_num_value_heads"])
    writer.add_ssm_inner_size(config["linear_num_value_heads"] * config["linear_value_head_dim"])
    writer.add_full_attention_interval(FULL_ATTENTION_INTERVAL)
    writer.add_tokenizer_model("none")  # it is fed token numbers


def _tensor(
    writer: GGUFWriter,
    config: dict[str, Any],
    kind: Kind,
    module: str,
    leaf: str,
    value: mx.array,
    parts: list[mx.array],
) -> None:
    if module in OUTER:
        name = OUTER[module]
    else:
        layer, _, inner = module.removeprefix("model.layers.").partition(".")
        if leaf in ("A_log", "dt_bias"):
            name = f"blk.{layer}.{'ssm_a' if leaf == 'A_log' else 'ssm_dt.bias'}"
            floats = _floats(value)
            writer.add_tensor(name, _heads(config, 1)(-np.exp(floats) if leaf == "A_log" else floats, 0))
            return
        name = f"blk.{layer}.{NAMES[inner]}"
    short = name.rpartition(".")[2]
    if not parts:
        floats = _floats(value)
        if short == "ssm_conv1d":
            floats = _reordered(config, short, floats[..., 0])
        writer.add_tensor(f"{name}.weight", floats)
        return
    bits = value.shape[-1] * 32 // (parts[0].shape[-1] * GROUP_SIZE)
    codes = _reordered(config, short, _codes(value, bits))
    scales, biases = (_reordered(config, short, np.repeat(_floats(p), GROUP_SIZE, -1)) for p in parts)
    if short in FLOAT:
        floats = scales * codes + biases
        writer.add_tensor(f"{name}.weight", floats[0] if short.endswith("shexp") else floats)
    elif kind == Kind.Q4_1 and bits == BITS:
        blocks = _q4_1(codes, scales[..., ::BLOCK], biases[..., ::BLOCK])
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=Kind.Q4_1)
    else:
        writer.add_tensor(f"{name}.weight", quants.quantize(scales * codes + biases, kind), raw_dtype=kind)


def _floats(x: mx.array) -> Array:
    return np.array(x.astype(mx.float32))


def _codes(words: mx.array, bits: int) -> Array:
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    codes = (np.array(words)[..., None] >> shifts) & np.uint32(2**bits - 1)
    return codes.reshape(*words.shape[:-1], -1).astype(np.uint8)


def _q4_1(codes: Array, scales: Array, biases: Array) -> Array:
    """Blocks of two float16 and 16 bytes: the first 16 codes in the low halves, the others in the high ones."""
    halves = [x.astype(np.float16) for x in (scales, biases)]
    for exact, half in zip((scales, biases), halves, strict=True):
        if np.any(half.astype(np.float32) != exact):
            raise DeltamoeError("a scale or bias does not fit a float16, so Q4_1 would not be the same model")
    blocks = codes.reshape(*scales.shape, 2, BLOCK // 2)
    packed = blocks[..., 0, :] | (blocks[..., 1, :] << 4)
    return np.concatenate([*(h[..., None].view(np.uint8) for h in halves), packed], -1).reshape(*codes.shape[:-1], -1)


def _reordered(config: dict[str, Any], name: str, x: Array) -> Array:
    """With the value heads in ggml's order, where the tensor has such."""
    width = config["linear_value_head_dim"]
    heads = _heads(config, width)
    if name in ("attn_qkv", "ssm_conv1d"):
        keys = 2 * config["linear_num_key_heads"] * config["linear_key_head_dim"]
        return np.concatenate([x[:keys], heads(x[keys:], 0)])
    if name in ("ssm_beta", "ssm_alpha"):
        return _heads(config, 1)(x, 0)
    if name == "attn_gate":
        return heads(x, 0)
    return heads(x, 1) if name == "ssm_out" else x


def _heads(config: dict[str, Any], width: int) -> Callable[[Array, int], Array]:
    """Moves value heads of ``width`` along an axis."""
    keys, values = config["linear_num_key_heads"], config["linear_num_value_heads"]
    order = np.arange(values * width).reshape(keys, values // keys, width).swapaxes(0, 1).reshape(-1)
    return lambda x, axis: np.take(x, order, axis)
