"""Attention of a few queries."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np

from tests import oracle
from tests.arrays import F32, normal, numpy_of
from tests.oracle.maths import softmax
from tests.sim.launches.launch import NAME, TYPE, Buffer, Launch, Result, ceil_div, instantiate


def attention_inputs(
    rng: np.random.Generator, dtype: mx.Dtype, heads: int, kv_heads: int, queries: int, keys: int, width: int
) -> tuple[mx.array, mx.array, mx.array]:
    """q ``[heads, queries, width]``, k and v ``[kv_heads, keys, width]``."""
    q = normal(rng, heads, queries, width, dtype=dtype)
    k, v = (normal(rng, kv_heads, keys, width, dtype=dtype) for _ in range(2))
    return q, k, v


def attention_scores(q: mx.array, k: mx.array) -> np.ndarray:
    """``[heads, queries, keys]``, scaled."""
    shared = np.repeat(numpy_of(k), q.shape[0] // k.shape[0], axis=0)
    return numpy_of(q) @ shared.transpose(0, 2, 1) * q.shape[-1] ** -0.5


def attention_strides(keys: int, width: int) -> dict[str, Buffer]:
    """Of k and v as one block each, and the scale."""
    strides = {"head": np.uint64(keys * width), "seq": np.uint64(width)}
    named: dict[str, Buffer] = {f"{x}_{name}_stride": stride for x in "kv" for name, stride in strides.items()}
    return named | {"N": np.int32(keys), "scale": np.float32(width**-0.5)}


def attention_constants(*, mask: str = "", sinks: bool = False, blocks: int = 32) -> dict[int, bool | np.generic]:
    """Function constants of MLX's sdpa_vector.h."""
    return {
        20: mask in ("bool", "float"),
        21: False,
        22: mask == "causal",
        23: mask == "bool",
        24: mask == "float",
        25: sinks,
        26: np.int32(blocks),
    }


def sdpa_vector(
    rng: np.random.Generator,
    dtype: mx.Dtype,
    *,
    heads: int,
    kv_heads: int,
    keys: int,
    width: int,
    queries: int = 1,
    mask: str = "",
    sinks: bool = False,
) -> Launch:
    """Attention of one or a few queries in one pass; ``mask`` is causal, bool or float."""
    kernel = f"sdpa_vector_{TYPE[dtype]}_{width}_{width}"
    q, k, v = attention_inputs(rng, dtype, heads, kv_heads, queries, keys, width)
    scores = attention_scores(q, k)
    buffers: dict[str, Buffer] = {"queries": q, "keys": k, "values": v, "gqa_factor": np.int32(heads // kv_heads)}
    allowed = rng.random(scores.shape) < 0.7
    if mask == "causal":
        scores[:, np.arange(keys) > np.arange(keys - queries, keys)[:, None]] = -np.inf
    elif mask == "bool":
        buffers["bmask"] = allowed
        scores[~allowed] = -np.inf
    elif mask == "float":
        fmask = mx.where(mx.array(allowed), normal(rng, *scores.shape, dtype=dtype), -math.inf).astype(dtype)
        buffers["fmask"] = fmask
        scores = scores + numpy_of(fmask)
    if mask in ("bool", "float"):
        strides = {"kv_seq": 1, "q_seq": keys, "head": queries * keys}
        buffers |= {f"mask_{name}_stride": np.int32(stride) for name, stride in strides.items()}
    weights = softmax(scores)
    if sinks:
        sink = normal(rng, heads, dtype=dtype)
        buffers |= {"sinks": sink, "num_q_heads": np.int32(heads)}
        everything = np.concatenate([np.tile(numpy_of(sink)[:, None, None], (1, queries, 1)), scores], axis=-1)
        weights = softmax(everything)[..., 1:]
    return Launch(
        kernel,
        grid=(heads, queries, 1),
        threadgroup=(1024, 1, 1),
        buffers=buffers | attention_strides(keys, width),
        results={"out": Result(dtype, weights @ np.repeat(numpy_of(v), heads // kv_heads, axis=0))},
        source=instantiate("utils.h sdpa_vector.h", kernel, "sdpa_vector", TYPE[dtype], width, width),
        constants=attention_constants(mask=mask, sinks=sinks),
    )


def partial_attention(scores: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of some of the keys: sum(exp(s - max) v), sum(exp(s - max)) and max."""
    most = scores.max(axis=-1)
    weights = np.exp(scores - most[..., None])
    return weights @ values, weights.sum(axis=-1), most


def sdpa_vector_2pass_1(rng: np.random.Generator, dtype: mx.Dtype, *, keys: int, width: int, queries: int) -> Launch:
    """The first pass: a partial result for each of 32 interleaved sets of keys."""
    kernel, heads, blocks = f"sdpa_vector_2pass_1_{TYPE[dtype]}_{width}_{width}", 2, 32
    q, k, v = attention_inputs(rng, dtype, heads, 1, queries, keys, width)
    scores, values = attention_scores(q, k), numpy_of(v)[0]
    parts = [partial_attention(scores[..., i::blocks], values[i::blocks]) for i in range(blocks)]
    out, sums, most = (np.stack(part, axis=2) for part in zip(*parts, strict=True))
    return Launch(
        kernel,
        grid=(1, 1, blocks),
        threadgroup=(32, heads, queries),
        buffers={"queries": q, "keys": k, "values": v} | attention_strides(keys, width),
        results={"out": Result(dtype, out), "sums": Result(F32, sums), "maxs": Result(F32, most)},
        source=instantiate("utils.h sdpa_vector.h", kernel, "sdpa_vector_2pass_1", TYPE[dtype], width, width),
        constants=attention_constants(blocks=blocks),
    )


def sdpa_vector_2pass_1_gqa(rng: np.random.Generator, dtype: mx.Dtype, *, keys: int, blocks: int) -> Launch:
    """The first pass for eight heads to one of keys and values: consecutive keys."""
    width, heads = 128, 8
    kernel = f"sdpa_vector_2pass_1_gqa_{heads}_{TYPE[dtype]}_{width}_{width}"
    q, k, v = attention_inputs(rng, dtype, heads, 1, 1, keys, width)
    scores, values = attention_scores(q, k)[:, 0], numpy_of(v)[0]
    chunk = ceil_div(keys, blocks)
    parts = [partial_attention(scores[:, i : i + chunk], values[i : i + chunk]) for i in range(0, keys, chunk)]
    out, sums, most = (np.stack(part, axis=1) for part in zip(*parts, strict=True))
    return Launch(
        kernel,
        grid=(1, 1, blocks),
        threadgroup=(32, heads, 1),
        buffers={"queries": q, "keys": k, "values": v} | attention_strides(keys, width),
        results={"out": Result(dtype, out), "sums": Result(F32, sums), "maxs": Result(F32, most)},
        source=instantiate(
            "utils.h sdpa_vector.h", kernel, "sdpa_vector_2pass_1_gqa", TYPE[dtype], width, width, heads, 4
        ),
        constants=attention_constants(blocks=blocks),
    )


def sdpa_vector_2pass_2(rng: np.random.Generator, dtype: mx.Dtype, *, blocks: int, width: int) -> Launch:
    """The second pass: partial results become one."""
    kernel = f"sdpa_vector_2pass_2_{TYPE[dtype]}_{width}"
    partials = normal(rng, 2, blocks, width, dtype=dtype)
    maxs = normal(rng, 2, blocks)
    sums = mx.array(rng.uniform(1, 8, (2, blocks)).astype(np.float32))
    factor = np.exp(numpy_of(maxs) - numpy_of(maxs).max(axis=-1, keepdims=True))
    total = (factor * numpy_of(sums)).sum(axis=-1, keepdims=True)
    return Launch(
        kernel,
        grid=(2, 1, 1),
        threadgroup=(1024, 1, 1),
        buffers={"partials": partials, "sums": sums, "maxs": maxs, "blocks": np.int32(blocks)},
        results={"out": Result(dtype, (factor[..., None] * numpy_of(partials)).sum(axis=1) / total)},
        source=instantiate("utils.h sdpa_vector.h", kernel, "sdpa_vector_2pass_2", TYPE[dtype], width),
        constants=attention_constants(),
    )


ATTENTION_PARAMS = np.dtype(
    [(name, np.int32) for name in ("B", "H", "D", "qL", "kL", "gqa_factor")]
    + [("scale", np.float32)]
    + [(name, np.int32) for name in ("NQ", "NK", "NQ_aligned", "NK_aligned", "qL_rem", "kL_rem", "qL_off")]
    + [(f"{x}_strides", np.int64, 3) for x in "QKVO"]
)
"""``mlx::steel::AttnParams``"""


def steel_attention(
    rng: np.random.Generator, dtype: mx.Dtype, *, heads: int, kv_heads: int, queries: int, keys: int, width: int
) -> Launch:
    """Causal attention of many queries, in tiles of 32 queries and 32 or 16 keys."""
    bk = 32 if width < 128 else 16
    shape = f"bq32_bk{bk}_bd{width}_bv{width}_wm4_wn1"
    kernel = f"steel_attention_{NAME[dtype]}_{shape}_mask{NAME[dtype]}"
    q, k, v = attention_inputs(rng, dtype, heads, kv_heads, queries, keys, width)
    (want,) = oracle.attention(numpy_of(q)[None], numpy_of(k)[None], numpy_of(v)[None], width**-0.5)
    params = np.zeros(1, ATTENTION_PARAMS)
    values: dict[str, float | tuple[int, ...]] = {
        "B": 1,
        "H": heads,
        "D": width,
        "qL": queries,
        "kL": keys,
        "gqa_factor": heads // kv_heads,
        "scale": width**-0.5,
        "NQ": ceil_div(queries, 32),
        "NK": ceil_div(keys, bk),
        "NQ_aligned": queries // 32,
        "NK_aligned": keys // bk,
        "qL_rem": queries % 32,
        "kL_rem": keys % bk,
        "qL_off": keys - queries,
        **{f"{x}_strides": (heads * queries * width, queries * width, width) for x in "QO"},
        **{f"{x}_strides": (kv_heads * keys * width, keys * width, width) for x in "KV"},
    }
    for name, value in values.items():
        params[name] = value
    return Launch(
        kernel,
        grid=(ceil_div(queries, 32), heads, 1),
        threadgroup=(32, 4, 1),
        buffers={"Q": q, "K": k, "V": v, "params": params},
        results={"O": Result(dtype, want[0].reshape(queries, heads, width).transpose(1, 0, 2))},
        source=instantiate(
            "utils.h steel/attn/kernels/steel_attention.h",
            kernel,
            *("attention", TYPE[dtype], 32, bk, width, width, 4, 1, TYPE[dtype], "float"),
        ),
        constants={200: queries % 32 == 0, 201: keys % bk == 0, 300: False, 301: True, 302: False, 303: False},
    )
