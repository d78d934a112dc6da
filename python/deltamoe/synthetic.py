"""Model directories in mlx-lm's own format, with random weights: the true shapes of Qwen3.5 without its download."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data import topics
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.models.qwen3_5_moe import Model, ModelArgs
from mlx_lm.utils import quantize_model, save_config, save_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from deltamoe.errors import DeltamoeError

__all__ = ["DTYPES", "GEOMETRIES", "Geometry", "corpus", "model_config", "skeleton", "write_model"]

DTYPES = ("bfloat16", "float16", "float32")
GROUP_SIZE = 64
BITS = 4
FULL_ATTENTION_INTERVAL = 4
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
TRAINED_TOKENS = 8192  # learned merges; the rest of a vocabulary is filled with joined words
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\n<think>\n' + ('\n</think>\n\n' if enable_thinking is false else '') }}
{%- endif -%}
"""


@dataclass(frozen=True)
class Geometry:
    """The shape of a Qwen3.5 MoE text model; the fields are named as in ``config.json``."""

    hidden_size: int
    num_hidden_layers: int
    num_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    shared_expert_intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    linear_num_key_heads: int
    linear_num_value_heads: int
    linear_key_head_dim: int
    linear_value_head_dim: int
    vocab_size: int


# The published text configurations of Qwen/Qwen3.5-*; tiny is ours, with every ratio of the others kept above one.
GEOMETRIES = {
    "tiny": Geometry(256, 4, 16, 4, 128, 128, 4, 2, 64, 2, 4, 64, 64, 4096),
    "35b-a3b": Geometry(2048, 40, 256, 8, 512, 512, 16, 2, 256, 16, 32, 128, 128, 248320),
    "122b-a10b": Geometry(3072, 48, 256, 8, 1024, 1024, 32, 2, 256, 16, 64, 128, 128, 248320),
    "397b-a17b": Geometry(4096, 60, 512, 10, 1024, 1024, 32, 2, 256, 16, 64, 128, 128, 248320),
}


def model_config(geometry: str, layers: int | None = None, dtype: str = "bfloat16") -> dict[str, Any]:
    """``config.json`` before quantisation.

    Args:
        geometry: a key of :data:`GEOMETRIES`.
        layers: how many of its layers, at least 4; None for all of them.
        dtype: one of :data:`DTYPES`, of everything that is not quantised, and of scales and biases.

    Raises:
        DeltamoeError: an unknown geometry or dtype, or too few layers.
    """
    if geometry not in GEOMETRIES:
        raise DeltamoeError(f"unknown geometry {geometry!r}; choose one of {', '.join(GEOMETRIES)}")
    if dtype not in DTYPES:
        raise DeltamoeError(f"unknown dtype {dtype!r}; choose one of {', '.join(DTYPES)}")
    shape = GEOMETRIES[geometry]
    layers = shape.num_hidden_layers if layers is None else layers
    if layers < FULL_ATTENTION_INTERVAL:
        # mlx-lm reads the cache of layer 3 to build the attention mask, so a shorter model does not run.
        raise DeltamoeError(
            f"{layers} layers are too few: Qwen3.5 repeats 3 Gated DeltaNet layers and 1 attention layer, "
            f"so choose {FULL_ATTENTION_INTERVAL} layers or more"
        )
    eos = shape.vocab_size - len(SPECIAL_TOKENS) + SPECIAL_TOKENS.index("<|im_end|>")
    return {
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "eos_token_id": eos,
        "model_type": "qwen3_5_moe",
        "text_config": {
            **asdict(shape),
            "attention_bias": False,
            "attn_output_gate": True,
            "dtype": dtype,
            "eos_token_id": eos,
            "full_attention_interval": FULL_ATTENTION_INTERVAL,
            "hidden_act": "silu",
            "layer_types": [
                "linear_attention" if (i + 1) % FULL_ATTENTION_INTERVAL else "full_attention" for i in range(layers)
            ],
            "linear_conv_kernel_dim": 4,
            "max_position_embeddings": 262144,
            "model_type": "qwen3_5_moe_text",
            "norm_topk_prob": True,
            "num_hidden_layers": layers,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "mrope_interleaved": True,
                "mrope_section": [11, 11, 10],
                "partial_rotary_factor": 0.25,
                "rope_theta": 10000000,
                "rope_type": "default",
            },
            "tie_word_embeddings": False,
        },
        "tie_word_embeddings": False,
    }


def skeleton(
    geometry: str, layers: int | None = None, dtype: str = "bfloat16", rng: np.random.Generator | None = None
) -> tuple[Model, dict[str, Any]]:
    """mlx-lm's own model, quantised by mlx-lm's own rule, and its ``config.json``.

    Nothing is evaluated, so that shapes and dtypes of any geometry cost no memory.

    Args:
        geometry, layers, dtype: as :func:`model_config`.
        rng: draws the weights before they are quantised; None keeps mlx-lm's initial values.
    """
    config = model_config(geometry, layers, dtype)
    model = Model(ModelArgs.from_dict(copy.deepcopy(config)))  # mlx-lm edits what it is given
    if rng is not None:
        model.update(tree_map_with_path(lambda name, x: _draw(rng, name, x.shape), model.parameters()))
    target = getattr(mx, dtype)
    keep = model.cast_predicate
    model.update(tree_map_with_path(lambda name, x: x.astype(target) if keep(name) else x, model.parameters()))
    with contextlib.redirect_stdout(io.StringIO()):
        _, config = quantize_model(model, config, GROUP_SIZE, BITS)  # in place
    return model, config


def write_model(
    path: str | Path, geometry: str, layers: int | None = None, dtype: str = "bfloat16", seed: int = 0
) -> Path:
    """Write a model directory that ``mlx_lm.load`` reads: configuration, quantised random weights, tokenizer.

    Weights have zero mean and variance 1 / fan-in, so activations stay of order one through any number of layers.
    tiny's are drawn and quantised by MLX. The others' are drawn as codes, scales and biases, one layer at a time.

    Args:
        path: a directory, made if absent. One that already holds this very model is left as it is.
        geometry, layers, dtype: as :func:`model_config`.
        seed: the same seed writes the same bytes.

    Returns:
        The path.

    Raises:
        DeltamoeError: as :func:`model_config`; a path that holds something else; not enough room on the disk.
    """
    path = Path(path)
    rng = np.random.default_rng(seed)
    quantised_by_mlx = geometry == "tiny"
    model, config = skeleton(geometry, layers, dtype, rng if quantised_by_mlx else None)
    config["deltamoe"] = {"random_weights": True, "seed": seed}
    if _holds(path, config):
        return path
    size = sum(x.nbytes for _, x in tree_flatten(model.parameters()))
    path.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(path).free) < 1.02 * size:
        raise DeltamoeError(
            f"{path} has {free / 1e9:.1f} GB free and the model needs {size / 1e9:.1f} GB; "
            "choose fewer layers or a directory on another disk"
        )
    if quantised_by_mlx:
        save_model(path, model)
    else:
        _save_random(path, model, rng, size)
    _tokenizer(GEOMETRIES[geometry].vocab_size).save_pretrained(path)
    save_config(config, path / "config.json")  # last: its presence marks a whole model
    return path


def corpus() -> str:
    """English text that every Python has: its language reference."""
    return "\n".join(topics.topics.values())


def _holds(path: Path, config: dict[str, Any]) -> bool:
    """Whether the directory holds the model of this configuration; an absent or empty one does not."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return False
    with contextlib.suppress(OSError, json.JSONDecodeError):
        if json.loads((path / "config.json").read_text()) == config:
            return True
    raise DeltamoeError(f"{path} exists and holds something else; name another directory or empty it")


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> mx.array:
    """Float32 values of the scale that a trained model's parameter of this name has."""
    if name.endswith("A_log"):
        return mx.array(np.log(rng.uniform(1, 16, shape)).astype(np.float32))
    if name.endswith("dt_bias"):
        # The inverse of softplus: time steps from 0.001 to 0.1, so that states remember for long.
        step = np.exp(rng.uniform(math.log(1e-3), math.log(1e-1), shape))
        return mx.array((step + np.log(-np.expm1(-step))).astype(np.float32))
    normal = mx.array(rng.standard_normal(shape, np.float32))
    if len(shape) == 1:
        return 1 + 0.1 * normal
    return normal * _deviation(name, shape[1] if "conv1d" in name else shape[-1])


def _deviation(name: str, fan_in: int) -> float:
    return 1.0 if "embed_tokens" in name else fan_in**-0.5


def _draw_quantized(rng: np.random.Generator, name: str, module: nn.Module) -> Iterator[tuple[str, mx.array]]:
    """Codes, scales and biases of one quantised module, without its float weights."""
    codes, scales, bits = module.weight, module.scales, module.bits
    middle = (2**bits - 1) / 2
    deviation_of_codes = math.sqrt((4**bits - 1) / 12)  # uniform on 0 .. 2^bits - 1
    target = _deviation(name, codes.shape[-1] * 32 // bits)
    step = rng.uniform(0.7, 1.3, scales.shape).astype(np.float32) * np.float32(target / deviation_of_codes)
    # A group's mean is a little off zero, as in a trained model, but the mean over groups is not.
    offset = -step * (middle + rng.uniform(-0.5, 0.5, scales.shape).astype(np.float32))
    yield f"{name}.weight", mx.array(rng.integers(0, 2**32, codes.shape, np.uint32))
    yield f"{name}.scales", mx.array(step).astype(scales.dtype)
    yield f"{name}.biases", mx.array(offset).astype(scales.dtype)


def _save_random(path: Path, model: Model, rng: np.random.Generator, size: int) -> None:
    """Draw and save the parameters, a shard per layer, one shard in memory at a time."""
    quantized = {name: module for name, module in model.named_modules() if "scales" in module}
    shards: dict[str, list[tuple[str, mx.array]]] = {}
    for name, value in tree_flatten(model.parameters()):
        layer = name.partition(".layers.")[2].partition(".")[0]
        shards.setdefault(layer, []).append((name, value))
    weight_map = {}
    for number, shard in enumerate(shards.values(), 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        weights: dict[str, mx.array] = {}
        for name, value in shard:
            module_name, _, leaf = name.rpartition(".")
            if module_name not in quantized:
                weights[name] = _draw(rng, name, value.shape).astype(value.dtype)
            elif leaf == "weight":
                weights.update(_draw_quantized(rng, module_name, quantized[module_name]))
        mx.save_safetensors(str(path / file), weights, metadata={"format": "mlx"})
        weight_map.update(dict.fromkeys(weights, file))
        del weights
        mx.clear_cache()
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=4))


def _tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained here and now; every id below vocab_size decodes."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    room = vocab_size - len(SPECIAL_TOKENS)
    trainer = trainers.BpeTrainer(
        vocab_size=min(TRAINED_TOKENS, room),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learned.train_from_iterator(topics.topics.values(), trainer)
    bpe = json.loads(learned.to_str())["model"]
    vocab: dict[str, int] = bpe["vocab"]
    words = [token for token in sorted(vocab, key=vocab.__getitem__) if token.removeprefix("\u0120").isalpha()]
    joined = (a + b.removeprefix("\u0120") for a, b in itertools.product(words, words))
    for token in itertools.takewhile(lambda _: len(vocab) < room, joined):
        vocab.setdefault(token, len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(merge) for merge in bpe["merges"]]))
    tokenizer.pre_tokenizer = learned.pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
