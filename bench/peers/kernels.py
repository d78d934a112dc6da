"""MUL_MAT_ID and GATED_DELTA_NET of ggml beside ``moe_experts`` and ``gated_delta``, on one layer's shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

from bench.peers import ggml
from bench.peers.arms import Arm, Timing, measure
from deltamoe import ops
from deltamoe.measure.limits import cold_bytes
from deltamoe.synthetic import BITS, GEOMETRIES, GROUP_SIZE, Geometry
from tests.oracle.gated_delta import gated_delta as delta_oracle
from tests.oracle.moe_experts import mlp

__all__ = ["Case", "run"]

Array = np.ndarray[Any, Any]
Kind = GGMLQuantizationType

CHECKED = 4
"""Tokens of a mixture of experts that are compared with the oracle."""
MOST_ERROR = {"deltamoe": 1e-2, "ggml": 3e-2}
"""Of a result in the L2 norm, relative: ours rounds it to bfloat16, ggml rounds activations to 8 bits."""
MOST_DELTA_ERROR = 1e-5
"""All in float32."""


@dataclass(frozen=True)
class Case:
    """One kernel at one number of tokens: all arms, ours first."""

    name: str
    tokens: int
    timings: tuple[Timing, ...] = field(default=())


def run(
    geometry: str, tokens: Sequence[int], seconds: float, threads: int, step: Callable[[str], object]
) -> list[Case]:
    """Measure every arm; a speed is only given for an arm whose result was right in this run."""
    shape = GEOMETRIES[geometry]
    cases = []
    weights = list(_weights(shape, step))
    for n in tokens:
        step(f"moe_experts, {n} tokens")
        arms = [make(shape, n, threads) for make in weights]
        cases.append(Case("experts", n, measure(arms, seconds)))
    for n in tokens:
        step(f"gated_delta, {n} tokens")
        cases.append(Case("gated delta", n, measure(_delta_arms(shape, n, threads), seconds)))
    return cases


# ---- mixture of experts ----

Maker = Callable[[Geometry, int, int], Arm]


def _weights(shape: Geometry, step: Callable[[str], object]) -> Iterator[Maker]:
    """Makers of arms, each with a whole layer's experts of its own."""
    rng = np.random.default_rng(0)
    step("weights of deltamoe")
    yield _ours(shape, rng)
    for kind in (Kind.Q4_0, Kind.Q4_K):
        if any(columns % GGML_QUANT_SIZES[kind][0] for _, _, columns in _sizes(shape)):
            continue  # tiny's 128 columns make no block of 256
        step(f"weights of ggml, {kind.name}")
        blocks = [_blocks(rng, kind, *size) for size in _sizes(shape)]
        for repacked in (False, True):
            yield _theirs(kind, blocks, shape, repacked)


def _sizes(shape: Geometry) -> list[tuple[int, int, int]]:
    """Of gate, up and down."""
    experts, hidden, inner = shape.num_experts, shape.hidden_size, shape.moe_intermediate_size
    return [(experts, inner, hidden), (experts, inner, hidden), (experts, hidden, inner)]


def _routes(shape: Geometry, tokens: int, bytes_of_an_expert: float) -> list[tuple[Array, Array]]:
    """Indices and scores of so many calls that their experts are not in a cache when they come again."""
    rng = np.random.default_rng(tokens)
    k = shape.num_experts_per_tok
    calls = max(2, round(cold_bytes() / (bytes_of_an_expert * min(tokens * k, shape.num_experts))))
    routes = []
    for call in range(calls):
        if tokens * k * calls <= shape.num_experts:  # no expert comes twice
            first = call * tokens * k
            indices = np.arange(first, first + tokens * k).reshape(tokens, k)
        else:
            indices = np.stack([rng.choice(shape.num_experts, k, replace=False) for _ in range(tokens)])
        scores = rng.uniform(0.5, 1.5, (tokens, k)).astype(np.float32)
        routes.append((indices.astype(np.int32), scores / scores.sum(-1, keepdims=True)))
    return routes


def _activations(shape: Geometry, tokens: int) -> mx.array:
    x = np.random.default_rng(tokens).standard_normal((tokens, shape.hidden_size)).astype(np.float32)
    return mx.array(x).astype(mx.bfloat16)


def _expert_bytes(shape: Geometry, bytes_of_a_weight: float) -> float:
    return 3 * shape.hidden_size * shape.moe_intermediate_size * bytes_of_a_weight


def _moved(routes: list[tuple[Array, Array]], bytes_of_an_expert: float) -> float:
    """Bytes of weights that a call needs, on average."""
    return bytes_of_an_expert * float(np.mean([len(np.unique(indices)) for indices, _ in routes]))


def _ours(shape: Geometry, rng: np.random.Generator) -> Maker:
    made = []
    for size in _sizes(shape):
        *rows, columns = size
        codes = mx.array(rng.integers(0, 2**32, (*rows, columns * BITS // 32), np.uint32))
        scales = rng.uniform(0.7, 1.3, (*rows, columns // GROUP_SIZE)).astype(np.float32) * (columns**-0.5 / 4.6)
        made.append(
            ops.Quantized(codes, mx.array(scales).astype(mx.bfloat16), mx.array(-7.5 * scales).astype(mx.bfloat16))
        )
    gate, up, down = made
    mx.eval(made)

    def expert(e: int) -> list[Array]:
        return [
            np.array(
                mx.dequantize(
                    w.weight[e],
                    w.scales[e].astype(mx.float32),
                    w.biases[e].astype(mx.float32),
                    group_size=GROUP_SIZE,
                    bits=BITS,
                ),
                np.float64,
            )
            for w in made
        ]

    def make(shape: Geometry, tokens: int, threads: int) -> Arm:
        size = _expert_bytes(shape, BITS / 8 + 4 / GROUP_SIZE)
        routes = _routes(shape, tokens, size)
        x = _activations(shape, tokens)
        inputs = [(mx.array(indices), mx.array(scores)) for indices, scores in routes]
        mx.eval(x, inputs)
        calls = [partial(ops.moe_experts, x, *route, gate, up, down) for route in inputs]
        got = np.array(ops.moe_experts(x, *inputs[0], gate, up, down).astype(mx.float32))
        error = _expert_error(got, x, routes[0], expert)
        return Arm("deltamoe, bf16", calls, error, MOST_ERROR["deltamoe"], _moved(routes, size))

    return make


def _theirs(kind: Kind, blocks: list[Array], shape: Geometry, repacked: bool) -> Maker:
    weights = ggml.Weights(kind.value, blocks, [columns for _, _, columns in _sizes(shape)], repacked=repacked)

    def expert(e: int) -> list[Array]:
        return [quants.dequantize(part[e], kind).astype(np.float64) for part in blocks]

    def make(shape: Geometry, tokens: int, threads: int) -> Arm:
        per_block, nbytes = GGML_QUANT_SIZES[kind]
        size = _expert_bytes(shape, nbytes / per_block)
        routes = _routes(shape, tokens, size)
        x = _activations(shape, tokens)
        graphs = [_experts_graph(weights, np.array(x.astype(mx.float32)), *route, threads) for route in routes]
        graphs[0].run()
        got = graphs[0].result().reshape(tokens, shape.hidden_size)
        name = f"ggml {kind.name}{' repacked' if repacked else ''}"
        error = _expert_error(got, x, routes[0], expert)
        return Arm(name, [graph.run for graph in graphs], error, MOST_ERROR["ggml"], _moved(routes, size))

    return make


def _experts_graph(weights: ggml.Weights, x: Array, indices: Array, scores: Array, threads: int) -> ggml.Graph:
    """As llama.cpp builds it: three MUL_MAT_ID, SwiGLU, scores, and k - 1 additions."""
    gate, up, down = weights.tensors
    tokens, k = indices.shape
    hidden = x.shape[1]
    graph = ggml.Graph(threads)
    x_, ids, by = graph.input(x[:, None]), graph.input(indices), graph.input(scores[..., None])
    h = graph.op("swiglu_split", graph.op("mul_mat_id", gate, x_, ids), graph.op("mul_mat_id", up, x_, ids))
    y = graph.op("mul", graph.op("mul_mat_id", down, h, ids), by)
    row = 4 * hidden
    parts = [graph.op("view_2d", y, hidden, tokens, k * row, j * row) for j in range(k)]
    total = parts[0]
    for part in parts[1:]:
        total = graph.op("add", total, part)
    graph.build(total)
    return graph


def _expert_error(got: Array, x: mx.array, route: tuple[Array, Array], expert: Callable[[int], list[Array]]) -> float:
    rows = np.array(x.astype(mx.float32), np.float64)[:CHECKED]
    want = np.zeros_like(rows)
    for t, (chosen, scores) in enumerate(zip(*(part[:CHECKED] for part in route), strict=True)):
        for e, score in zip(chosen, scores, strict=True):
            want[t] += score * mlp(rows[t], *expert(int(e)))
    return _relative(got[:CHECKED], want)


def _relative(got: Array, want: Array) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def _blocks(rng: np.random.Generator, kind: Kind, experts: int, rows: int, columns: int) -> Array:
    """Random blocks whose weights have a variance of about 1 / columns."""
    per_block, nbytes = GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (experts, rows, columns // per_block, nbytes), np.uint8)
    if kind == Kind.Q4_0:  # w = d (code - 8)
        raw[..., :2] = _half(columns**-0.5 / 4.6)
    else:  # Q4_K: w = d scale code - d_min min; scales and minima have 6 bits
        d = columns**-0.5 / 260
        raw[..., :2], raw[..., 2:4] = _half(d), _half(7.5 * d)
    return raw.reshape(experts, rows, -1)


def _half(x: float) -> Array:
    return np.array([x], np.float16).view(np.uint8)


# ---- gated delta rule ----


def _delta_arms(shape: Geometry, tokens: int, threads: int) -> list[Arm]:
    """Both in float32, from q, k, v and gates to y and the new state."""
    hk, hv = shape.linear_num_key_heads, shape.linear_num_value_heads
    d = shape.linear_key_head_dim
    rng = np.random.default_rng(tokens)

    def normal(*size: int) -> Array:
        return rng.standard_normal(size).astype(np.float32)

    q, k = (normal(1, tokens, hk, d) for _ in range(2))
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    v, a, b = normal(1, tokens, hv, d), normal(1, tokens, hv), normal(1, tokens, hv)
    A_log, dt_bias = np.log(rng.uniform(1, 16, hv)).astype(np.float32), normal(hv)
    states = [normal(1, hv, d, d) for _ in range(max(2, round(cold_bytes() / (2 * 4 * hv * d * d))))]
    scaled = q * np.float32(d**-0.5)  # ggml does it itself
    moved = 2.0 * states[0].nbytes
    inputs = (scaled, k, v, a, b, A_log, dt_bias)
    want = delta_oracle(*(x.astype(np.float64) for x in (*inputs, states[0])))

    arrays = [mx.array(x) for x in inputs]
    old = [mx.array(state) for state in states]
    mx.eval(arrays, old)

    def ours(state: mx.array) -> tuple[mx.array, mx.array]:
        q, k, v, a, b, A_log, dt_bias = arrays
        return ops.gated_delta(q, k, v, a, b, A_log, dt_bias, state)

    got = [np.array(x) for x in ours(old[0])]
    calls = [partial(ours, state) for state in old]
    error = max(_relative(x, y) for x, y in zip(got, want, strict=True))
    arms = [Arm("deltamoe, f32", calls, error, MOST_DELTA_ERROR, moved)]

    tiled = np.arange(hv).reshape(hk, hv // hk).T.reshape(-1)  # ggml's value head i has key head i % hk
    gate = -np.exp(A_log) * np.logaddexp(0, a + dt_bias)
    beta = 1 / (1 + np.exp(-b))
    gates = [np.ascontiguousarray(x[..., tiled, None], np.float32) for x in (gate, beta)]
    graphs = [_delta_graph([q, k, v[:, :, tiled], *gates, state[:, tiled]], threads) for state in states]
    graphs[0].run()
    result = graphs[0].result()
    y, state = result[: v.size].reshape(v.shape), result[v.size :].reshape(states[0].shape)
    theirs = (y[:, :, np.argsort(tiled)], state[:, np.argsort(tiled)])
    error = max(_relative(x, y) for x, y in zip(theirs, want, strict=True))
    arms.append(Arm("ggml GATED_DELTA_NET", [graph.run for graph in graphs], error, MOST_DELTA_ERROR, moved))
    return arms


def _delta_graph(inputs: list[Array], threads: int) -> ggml.Graph:
    graph = ggml.Graph(threads)
    tensors = [graph.input(np.ascontiguousarray(x)) for x in inputs]
    graph.build(graph.op("gated_delta_net", *tensors, 1))
    return graph
