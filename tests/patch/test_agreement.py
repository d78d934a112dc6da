"""Patched models against stock mlx-lm, in float32: logits, caches and greedy tokens."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import (
    ArraysCache,
    BatchKVCache,
    KVCache,
    can_trim_prompt_cache,
    load_prompt_cache,
    make_prompt_cache,
    save_prompt_cache,
)

import deltamoe
from tests.patch.models import KINDS, both, build, contents, layers_of, prefill_and_decode, share, tokens
from tests.tolerance import assert_close

LOGITS = 2e-5
TIE = 1e-5


def assert_agree(stock: list[mx.array], ours: list[mx.array]) -> None:
    assert len(stock) == len(ours)
    for i, (theirs, mine) in enumerate(zip(stock, ours, strict=True)):
        assert mine.dtype == theirs.dtype
        assert_close(mine, np.array(theirs, dtype=np.float64), f"result {i}", l2=LOGITS)


def assert_dtypes(stock: list[mx.array], ours: list[mx.array]) -> None:
    for theirs, mine in zip(stock, ours, strict=True):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        assert mx.isfinite(mine).all().item()


def assert_ours_alone(*parts: str) -> None:
    """Everything that was called ran deltamoe's code."""
    rows = deltamoe.status().rows
    assert {row.part for row in rows} >= set(parts)
    assert [(row.part, row.reasons) for row in rows if row.mlx_lm] == []
    assert all(row.deltamoe for row in rows)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_prefill_and_decode(kind: str, tied: bool) -> None:
    model = build(kind, tie_word_embeddings=tied)
    assert_agree(*both(lambda: prefill_and_decode(model)))
    delta_net, decoder, head = {
        "qwen3_next": ("Qwen3NextGatedDeltaNet", "Qwen3NextDecoderLayer", "Model"),
    }.get(kind, ("GatedDeltaNet", "DecoderLayer", "TextModel"))
    mlp = "Qwen3NextMLP" if kind == "qwen3_5" else "Qwen3NextSparseMoeBlock"
    assert_ours_alone(delta_net, decoder, head, mlp, "Qwen3NextAttention")


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_cache(kind: str) -> None:
    model = build(kind)
    assert_agree(*both(lambda: [model(tokens(1, 9)), model(tokens(1, 1))]))


@pytest.mark.parametrize("kind", ["qwen3_5", "qwen3_5_moe"])
def test_embeddings_for_input(kind: str) -> None:
    model = build(kind)
    embeddings = mx.random.normal((1, 5, 128), key=mx.random.key(3))
    assert_agree(*both(lambda: [model(tokens(1, 5), input_embeddings=embeddings)]))


@pytest.mark.parametrize("kind", KINDS)
def test_compiled(kind: str) -> None:
    model = build(kind)
    expected = model(tokens(1, 5))
    with deltamoe.patched():
        model(tokens(1, 5))
        for state in ([], [model.state]):  # weights as constants of the graph, and as inputs: tracers while it is made
            compiled = mx.compile(model.__call__, inputs=state)
            assert_agree([expected] * 2, [compiled(tokens(1, 5)), compiled(tokens(1, 5))])
        assert_agree([expected], [model(tokens(1, 5))])
    assert_ours_alone()


@pytest.mark.parametrize("kind", KINDS)
def test_several_sequences_of_one_length(kind: str) -> None:
    model = build(kind)

    def run() -> list[mx.array]:
        cache = make_prompt_cache(model)
        return [model(tokens(3, 6), cache=cache), model(tokens(3, 1), cache=cache)]

    assert_agree(*both(run))
    assert_ours_alone()


@pytest.mark.parametrize("normalize", [True, False])
def test_router_normalisation(normalize: bool) -> None:
    model = build("qwen3_5_moe", norm_topk_prob=normalize)
    assert_agree(*both(lambda: [model(tokens(1, 9))]))


def test_attention_without_a_mask_is_not_causal() -> None:
    attention = layers_of(build("qwen3_5"), "self_attn")[0]
    x = mx.random.normal((1, 6, 128), key=mx.random.key(3))
    assert_agree(*both(lambda: [attention(x), attention(x, mask="causal")]))
    assert share("Qwen3NextAttention") == (2, 0, [])


@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
def test_every_covered_format(bits: int, group_size: int) -> None:
    model = build("qwen3_5_moe", bits=bits, group_size=group_size, intermediate_size=128, moe_intermediate_size=128)
    assert_agree(*both(lambda: [model(tokens(1, 5))]))
    assert_ours_alone("Qwen3NextSparseMoeBlock")


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_halves_keep_their_dtype(kind: str, dtype: mx.Dtype) -> None:
    # MLX's own half-precision matmul is wrong by percents on the CPU: only dtypes and sizes are held to it.
    model = build(kind, dtype=dtype)
    stock, ours = both(lambda: prefill_and_decode(model))
    assert_ours_alone()
    assert_dtypes(stock, ours)


def generated(model: nn.Module, prompt: mx.array, **settings: Any) -> tuple[list[int], list[mx.array]]:
    """Greedy tokens of mlx-lm's own generate loop, and the log-probabilities behind them."""
    steps = list(generate_step(prompt, model, **settings))
    return [token for token, _ in steps], [logprobs for _, logprobs in steps]


@pytest.mark.parametrize(
    "settings", [{"prefill_step_size": 3}, {"kv_bits": 8, "kv_group_size": 32, "quantized_kv_start": 0}]
)
@pytest.mark.parametrize("kind", KINDS)
def test_generate_settings(kind: str, settings: dict[str, int]) -> None:
    """Chunked prefill; and keys and values quantised, which mlx-lm's own attention reads."""
    model = build(kind)
    (stock_tokens, stock), (our_tokens, ours) = both(lambda: generated(model, tokens(11), max_tokens=6, **settings))
    assert our_tokens == stock_tokens
    assert_agree(stock, ours)
    reasons = share("Qwen3NextAttention.scaled_dot_product_attention")[2]
    assert reasons == (["QuantizedKVCache is not KVCache"] if "kv_bits" in settings else [])


def greedy(model: nn.Module, prompts: mx.array, count: int) -> mx.array:
    """The ``count`` most probable next tokens of each of ``prompts`` ``[B, T]``, which share a cache."""
    cache = make_prompt_cache(model)
    found = [mx.argmax(model(prompts, cache=cache)[:, -1:], axis=-1)]
    while len(found) < count:
        found.append(mx.argmax(model(found[-1], cache=cache), axis=-1))
        mx.async_eval(found[-1])
    return mx.concatenate(found, axis=1)


@pytest.mark.parametrize(("kind", "batch"), [("qwen3_5_moe", 1), ("qwen3_5", 16), ("qwen3_next", 16)])
def test_greedy_tokens(kind: str, batch: int) -> None:
    """64 prompts x 64 tokens. A tie within rounding in stock's own numbers is the one excuse, and it is told."""
    model = build(kind, seed=5)
    for first in range(0, 64, batch):
        prompts = tokens(batch, 3 + first % 9, seed=first)
        stock, ours = both(lambda: greedy(model, prompts, 64))  # noqa: B023
        assert_ours_alone()
        for prompt, theirs, mine in zip(prompts, stock.tolist(), ours.tolist(), strict=True):
            if mine == theirs:
                continue
            same = next(i for i, (a, b) in enumerate(zip(theirs, mine, strict=True)) if a != b)
            gap = smallest_gap(model, mx.concatenate([prompt, mx.array(theirs[:same], prompt.dtype)]))
            told = f"{kind}: a prompt of {first} and on differs at token {same}; stock's nearest tie so far: {gap:.2g}"
            assert gap < TIE, told
            warnings.warn(told, stacklevel=1)


def smallest_gap(model: nn.Module, sequence: mx.array) -> float:
    """The narrowest choice of stock mlx-lm: the last token's two best logits, or a router's of any token so far."""
    routers = [mlp for mlp in layers_of(model, "mlp") if "gate" in mlp]
    gates = [router.gate for router in routers]
    seen: list[mx.array] = []
    for router, gate in zip(routers, gates, strict=True):
        router.gate = Tap(gate, seen.append)
    try:
        logits = mx.sort(model(sequence[None])[0, -1])
    finally:
        for router, gate in zip(routers, gates, strict=True):
            router.gate = gate
    gaps = [(logits[-1] - logits[-2]).item()]
    for router, chosen_from in zip(routers, seen, strict=True):
        p = mx.sort(mx.softmax(chosen_from, axis=-1), axis=-1)
        gaps.append((p[..., -router.top_k] - p[..., -router.top_k - 1]).min().item())
    return min(gaps)


def test_ties_are_found() -> None:
    model = build("qwen3_5_moe", seed=5)
    sequence = tokens(4)
    assert smallest_gap(model, sequence) > TIE
    head = model.language_model.lm_head
    best = mx.argmax(model(sequence[None])[0, -1]).item()
    weights = {name: head[name] for name in ("weight", "scales", "biases")}
    for name, array in weights.items():
        head[name] = mx.concatenate([array[:-1], array[best : best + 1]])
    assert smallest_gap(model, sequence) == 0
    head.update(weights)
    for mlp in layers_of(model, "mlp")[:1]:
        for name in weights:
            mlp.gate[name] = mx.concatenate([mlp.gate[name][:1]] * 8)
    assert smallest_gap(model, sequence) == 0


class Tap(nn.Module):
    """Shows a child's results to somebody."""

    def __init__(self, child: nn.Module, show: Callable[[mx.array], None]) -> None:
        super().__init__()
        self.child = child
        self.show = show

    def __call__(self, x: mx.array) -> mx.array:
        y = self.child(x)
        self.show(y)
        return y


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_prompt_cache_loads_in_the_other(kind: str, tmp_path: Path) -> None:
    model = build(kind)
    file = str(tmp_path / "cache.safetensors")
    prompt, more = tokens(1, 6), tokens(1, 2, seed=2)

    def save() -> list[mx.array]:
        cache = make_prompt_cache(model)
        model(prompt, cache=cache)
        save_prompt_cache(file, cache)
        return [model(more, cache=cache)]

    def load() -> list[mx.array]:
        return [model(more, cache=load_prompt_cache(file))]

    stock = save()
    with deltamoe.patched():
        assert_agree(stock, load())
        assert_agree(stock, save())
    assert_agree(stock, load())


def test_the_cache_is_told_of_the_tokens() -> None:
    layer = layers_of(build("qwen3_5"), "linear_attn")[0]
    told: list[int] = []
    cache = ArraysCache(2)
    cache.advance = told.append
    with deltamoe.patched():
        layer(mx.zeros((1, 4, 128)), None, cache)
    assert told == [4]
    assert share("GatedDeltaNet") == (1, 0, [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_copied_cache_is_independent(kind: str) -> None:
    model = build(kind)

    def run() -> list[mx.array]:
        cache = make_prompt_cache(model)
        model(tokens(1, 5), cache=cache)
        copied = copy.deepcopy(cache)
        first = model(tokens(1, 3, seed=2), cache=cache)
        return [first, model(tokens(1, 3, seed=2), cache=copied), *contents(cache), *contents(copied)]

    stock, ours = both(run)
    assert_agree(stock, ours)
    assert_agree(ours[:1], ours[1:2])


def test_trimming() -> None:
    model = build("qwen3_5")
    attention = layers_of(model, "self_attn")[0]
    x = mx.random.normal((1, 6, 128), key=mx.random.key(3))

    def run() -> list[mx.array]:
        cache = KVCache()
        attention(x, mask="causal", cache=cache)
        assert cache.trim(2) == 2
        return [attention(x[:, :1], cache=cache), *cache.keys_and_values()]

    assert_agree(*both(run))
    with deltamoe.patched():
        cache = make_prompt_cache(model)
        model(tokens(1, 3), cache=cache)
        assert not can_trim_prompt_cache(cache)  # DeltaNet's state cannot be taken back


@pytest.mark.parametrize("kind", KINDS)
def test_a_left_padded_batch(kind: str) -> None:
    model = build(kind)
    padding = [2, 0]

    def run() -> list[mx.array]:
        cache = [
            ArraysCache(2, left_padding=padding) if isinstance(entry, ArraysCache) else BatchKVCache(padding)
            for entry in make_prompt_cache(model)
        ]
        return [model(tokens(2, 6), cache=cache), model(tokens(2, 1), cache=cache)]

    assert_agree(*both(run))
    delta_net = "Qwen3NextGatedDeltaNet" if kind == "qwen3_next" else "GatedDeltaNet"
    assert share(delta_net) == (0, 6, ["padded batch (mask)"])
    assert share("Qwen3NextAttention.scaled_dot_product_attention") == (0, 2, ["BatchKVCache is not KVCache"])


def test_a_right_padded_batch() -> None:
    layer = layers_of(build("qwen3_5"), "linear_attn")[0]
    x = mx.random.normal((2, 6, 128), key=mx.random.key(3))

    def run() -> list[mx.array]:
        cache = ArraysCache(2)
        cache.prepare(lengths=[6, 4])
        return [layer(x, cache.make_mask(6), cache), layer(x, None, cache), *cache.cache]

    stock, ours = both(run)
    assert_agree(stock, ours)
    assert share("GatedDeltaNet") == (0, 2, ["padded batch (mask)", "padded batch (lengths)"])


def test_a_mask_of_ones() -> None:
    attention = layers_of(build("qwen3_5"), "self_attn")[0]
    x = mx.random.normal((1, 4, 128), key=mx.random.key(3))
    mask = mx.tril(mx.ones((4, 4), mx.bool_))
    assert_agree(*both(lambda: [attention(x, mask=mask)]))
    assert share("Qwen3NextAttention.scaled_dot_product_attention") == (0, 1, ["padded batch (mask)"])
