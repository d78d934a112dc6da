"""What is measured: each op at the shapes of four models, its arguments, what it costs, and mlx-lm's way to the same.

Weights, states and caches are cold: a case has several sets of them, larger together than the last-level cache, which
calls take in turns. Activations are warm, as they are in a model, where the op before has just written them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.gated_delta import compute_g, gated_delta_update, normalize_qk
from mlx_lm.models.qwen3_next import Qwen3NextMLP, Qwen3NextRMSNormGated
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchGLU

from deltamoe import ops
from deltamoe.measure.limits import BF16, F32
from deltamoe.ops import Quantized
from deltamoe.synthetic import BITS, GEOMETRIES, GROUP_SIZE, Geometry

__all__ = [
    "ARMS",
    "DTYPES",
    "FAST",
    "MODELS",
    "OURS",
    "STOCK",
    "Case",
    "Setup",
    "Work",
    "default_cases",
    "full_cases",
    "small",
]

Arguments = dict[str, Any]
Call = Callable[[], Any]

MODELS = {
    "35B-A3B": GEOMETRIES["35b-a3b"],
    "122B-A10B": GEOMETRIES["122b-a10b"],
    "397B-A17B": GEOMETRIES["397b-a17b"],
    # Qwen/Qwen3.5-27B; a dense block is one expert that every token takes
    "27B": Geometry(5120, 64, 1, 1, 17408, 0, 24, 4, 256, 16, 48, 128, 128, 248320),
}

OURS, STOCK, FAST = "deltamoe", "stock", "mx.fast"  # stock is mlx-lm's way, and so called by deltamoe track
ARMS = {op: (OURS, STOCK) for op in ops.__all__ if op != "Quantized"} | {"gated_delta": (OURS, STOCK, FAST)}

GATE_BITS = 8  # of the shared expert's gate
TAPS = 4
BLOCK = 4 << 20  # random numbers that are repeated to fill larger arrays
MAX_SETS = 64
DTYPES = {"bf16": mx.bfloat16, "f16": mx.float16, "f32": mx.float32}


class Work(NamedTuple):
    """What a call costs.

    Attributes:
        bytes: read and written by an op that reads all once; 0 where the operands are warm.
        flops: floating-point operations of the mathematics, two a multiply-add.
        peak: of which of the machine's limits they are.
    """

    bytes: float
    flops: float
    peak: str


@dataclass(frozen=True)
class Case:
    """One op at one shape.

    Attributes:
        op: of ``deltamoe.ops``.
        model: a key of :data:`MODELS`.
        batch: sequences.
        tokens: of each sequence: 1 decodes.
        dtype: ``bf16``, ``f16`` or ``f32``, of activations and of scales and biases.
        depth: attention: tokens in the cache, these included.
        part: qlinear: which of the model's matrices.
    """

    op: str
    model: str
    batch: int = 1
    tokens: int = 1
    dtype: str = "bf16"
    depth: int = 0
    part: str = ""

    @property
    def name(self) -> str:
        """Unique, for a person, and stable: baselines and histories match by it."""
        phase = "decode" if self.tokens == 1 else f"prefill of {self.tokens}"
        where = f" at {self.depth}" if self.depth and self.tokens == 1 else ""
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.op}{' ' + self.part if self.part else ''} {self.model} {self.dtype}, {phase}{where}{batch}"

    def set_up(self, rng: np.random.Generator, cold: int, room: int, geometry: Geometry | None = None) -> Setup:
        """Make the arguments.

        Args:
            rng: of all values.
            cold: bytes after which memory is cold again.
            room: bytes that expert stacks may take.
            geometry: another one in place of the model's.
        """
        geometry = MODELS[self.model] if geometry is None else geometry
        return _SET_UP[self.op](self, geometry, DTYPES[self.dtype], rng, cold, room)


@dataclass(frozen=True)
class Setup:
    """A case with its arguments.

    Attributes:
        case: the case.
        sets: the op's arguments, one set for each call in turn.
        work: of one call.
        note: what differs from the model, if anything, such as fewer experts.
        extra: what mlx-lm's way needs beside the arguments.
    """

    case: Case
    sets: list[Arguments]
    work: Work
    note: str = ""
    extra: tuple[Any, ...] = ()

    def calls(self, arm: str) -> list[Call]:
        """One call for each set, unevaluated; what mlx-lm would have at hand before is made now."""
        if arm == OURS:
            return [partial(getattr(ops, self.case.op), **arguments) for arguments in self.sets]
        make = _fast_gated_delta if arm == FAST else _STOCK[self.case.op]
        return [make(*self.extra, **arguments) for arguments in self.sets]


def small(case: Case) -> Setup:
    """The case with narrow matrices, few heads and few experts: it takes the same paths and an oracle can follow."""
    model = MODELS[case.model]
    heads, v_heads = model.num_attention_heads, model.linear_num_value_heads
    experts = min(model.num_experts, 6)
    geometry = replace(
        model,
        hidden_size=256,
        num_experts=experts,
        num_experts_per_tok=min(model.num_experts_per_tok, 3),
        moe_intermediate_size=128,
        shared_expert_intermediate_size=min(model.shared_expert_intermediate_size, 192),
        num_attention_heads=heads // model.num_key_value_heads,
        num_key_value_heads=1,
        linear_num_key_heads=1,
        linear_num_value_heads=v_heads // model.linear_num_key_heads,
        vocab_size=320,
    )
    return case.set_up(np.random.default_rng(0), cold=0, room=1 << 30, geometry=geometry)


def default_cases(prefill: int = 256, depth: int = 2048) -> Iterator[Case]:
    """Every op at decode and prefill of every model; other batches and dtypes at the smallest."""
    for model, tokens in itertools.product(MODELS, (1, prefill)):
        yield from _ops_of(model, 1, tokens, "bf16", depth)
    yield from _ops_of("35B-A3B", 4, 1, "bf16", depth)
    for tokens in (1, prefill):
        yield from _ops_of("35B-A3B", 1, tokens, "f32", depth)


def full_cases() -> Iterator[Case]:
    """All of it: takes hours."""
    yield from dict.fromkeys(_full())


def _full() -> Iterator[Case]:
    for model, dtype in itertools.product(MODELS, DTYPES):
        for batch, depth in itertools.product((1, 2, 4, 8), (1024, 8192)):
            yield from _ops_of(model, batch, 1, dtype, depth)
        for batch, tokens in itertools.product((1, 4), (32, 256, 1024)):
            yield from _ops_of(model, batch, tokens, dtype, tokens)


def _ops_of(model: str, batch: int, tokens: int, dtype: str, depth: int) -> Iterator[Case]:
    for op in ARMS:
        if op == "moe_router" and MODELS[model].num_experts == 1:
            continue
        case = Case(op, model, batch, tokens, dtype)
        if op == "qlinear":
            yield replace(case, part="qkv")
            if tokens == 1:
                yield replace(case, part="head")
        elif op == "attention":
            yield replace(case, depth=depth if tokens == 1 else tokens)
        else:
            yield case


# ---- arguments -------------------------------------------------------------------------------------------------------


def _filled(block: np.ndarray, shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    """The block's numbers over and over: memory of its own, made fast."""
    array = mx.array(np.resize(block, shape)).astype(dtype)
    mx.eval(array)
    return array


def _normal(rng: np.random.Generator, *shape: int, dtype: mx.Dtype, scale: float = 1.0, mean: float = 0.0) -> mx.array:
    size = min(math.prod(shape), BLOCK // 4)
    return _filled((mean + scale * rng.standard_normal(size)).astype(np.float32), shape, dtype)


def _quantized(rng: np.random.Generator, *shape: int, dtype: mx.Dtype, bits: int = BITS) -> Quantized:
    """A random matrix, or a stack, of about unit gain."""
    *rows, columns = shape
    groups = (*rows, columns // GROUP_SIZE)
    codes = (*rows, columns * bits // 32)
    size = min(math.prod(groups), BLOCK // 4)
    step = (rng.uniform(0.7, 1.3, size) * math.sqrt(12 / columns) / 2**bits).astype(np.float32)
    middle = (step * (0.5 - 2 ** (bits - 1) + rng.uniform(-0.5, 0.5, size))).astype(np.float32)
    words = rng.integers(0, 2**32, min(math.prod(codes), BLOCK // 4), np.uint32)
    return Quantized(_filled(words, codes, mx.uint32), _filled(step, groups, dtype), _filled(middle, groups, dtype))


def _part(stack: Quantized, i: int) -> Quantized:
    return Quantized(*(array[i] for array in stack))


def _nbytes(*values: Any) -> int:
    """Of arrays and tuples of arrays."""
    return sum(value.nbytes if isinstance(value, mx.array) else _nbytes(*value) for value in values)


def _evaluated(sets: list[Arguments]) -> list[Arguments]:
    for arguments in sets:
        mx.eval([value for value in arguments.values() if isinstance(value, mx.array | tuple)])
    return sets


def _sets_for(cold: int, nbytes: int) -> int:
    return min(MAX_SETS, 1 + -(-cold // nbytes))


def _peak(dtype: mx.Dtype) -> str:
    """Of products with quantised matrices: bfloat16 ones have an instruction of their own."""
    return BF16 if dtype == mx.bfloat16 else F32


def _rms_norm(case: Case, g: Geometry, dtype: mx.Dtype, rng: np.random.Generator, cold: int, room: int) -> Setup:
    x = _normal(rng, case.batch, case.tokens, g.hidden_size, dtype=dtype)
    weight = _normal(rng, g.hidden_size, dtype=dtype, mean=1.0, scale=0.1)
    return Setup(case, [{"x": x, "weight": weight, "eps": 1e-6}], Work(0, 4.0 * x.size, F32))


def _moe_router(case: Case, g: Geometry, dtype: mx.Dtype, rng: np.random.Generator, cold: int, room: int) -> Setup:
    # not one logit twice in a row: which of equal experts is chosen is ours alone to fix
    rows = np.stack([rng.permutation(g.num_experts) for _ in range(case.batch * case.tokens)])
    logits = (rows.reshape(case.batch, case.tokens, -1) * 8.0 / g.num_experts).astype(np.float32)
    arguments = {"logits": mx.array(logits).astype(dtype), "k": g.num_experts_per_tok}
    return Setup(case, _evaluated([arguments]), Work(0, 4.0 * logits.size, F32))


def _qlinear(case: Case, g: Geometry, dtype: mx.Dtype, rng: np.random.Generator, cold: int, room: int) -> Setup:
    k_width, v_width = (
        g.linear_num_key_heads * g.linear_key_head_dim,
        g.linear_num_value_heads * g.linear_value_head_dim,
    )
    rows = {"qkv": 2 * k_width + v_width, "head": g.vocab_size}[case.part]
    first = _quantized(rng, rows, g.hidden_size, dtype=dtype)
    count = _sets_for(cold, _nbytes(first))
    matrices = [first, *(_quantized(rng, rows, g.hidden_size, dtype=dtype) for _ in range(count - 1))]
    x = _normal(rng, case.batch, case.tokens, g.hidden_size, dtype=dtype)
    y_bytes = x.nbytes // g.hidden_size * rows
    work = Work(_nbytes(first, x) + y_bytes, 2.0 * case.batch * case.tokens * rows * g.hidden_size, _peak(dtype))
    return Setup(case, [{"x": x, "w": w} for w in matrices], work)


def _moe_experts(case: Case, g: Geometry, dtype: mx.Dtype, rng: np.random.Generator, cold: int, room: int) -> Setup:
    hidden, inner, k = g.hidden_size, g.moe_intermediate_size, g.num_experts_per_tok
    tokens = case.batch * case.tokens
    x = _normal(rng, case.batch, case.tokens, hidden, dtype=dtype)
    one = 3 * hidden * inner * (BITS + 2 * 8 * dtype.size / GROUP_SIZE) / 8
    dense = g.num_experts == 1
    fitting = int(room / one)
    stored = _sets_for(cold, int(one)) if dense else max(k, min(g.num_experts, fitting))
    gate, up = (_quantized(rng, stored, inner, hidden, dtype=dtype) for _ in range(2))
    down = _quantized(rng, stored, hidden, inner, dtype=dtype)
    flops = 6.0 * tokens * k * hidden * inner
    if dense:
        sets: list[Arguments] = [
            {
                "x": x,
                "indices": mx.zeros((case.batch, case.tokens, 1), mx.uint32),
                "scores": mx.ones((case.batch, case.tokens, 1)),
                **{
                    name: Quantized(*(array[i : i + 1] for array in w))
                    for name, w in zip(_GLU, (gate, up, down), strict=True)
                },
            }
            for i in range(stored)
        ]
        return Setup(case, _evaluated(sets), Work(one + 2 * x.nbytes, flops, _peak(dtype)))

    shared_inner = g.shared_expert_intermediate_size
    touched = min(stored, tokens * k)
    count = min(MAX_SETS, max(_sets_for(cold, int(one * touched)), stored // touched))
    shared = tuple(
        _quantized(rng, count, *shape, dtype=dtype)
        for shape in ((shared_inner, hidden), (shared_inner, hidden), (hidden, shared_inner))
    )
    shared_gate = _quantized(rng, count, 1, hidden, dtype=dtype, bits=GATE_BITS)
    sets, chosen = [], []
    turns = itertools.cycle(rng.permutation(stored))  # of a few tokens: every expert once before any comes again
    for i in range(count):
        if tokens * k <= stored:
            indices = np.array(list(itertools.islice(turns, tokens * k)))
        else:
            indices = np.stack([rng.permutation(stored)[:k] for _ in range(tokens)])
        chosen.append(len(np.unique(indices)))
        scores = rng.dirichlet(np.ones(k), (case.batch, case.tokens)).astype(np.float32)
        sets.append(
            {
                "x": x,
                "indices": mx.array(indices.reshape(case.batch, case.tokens, k).astype(np.uint32)),
                "scores": mx.array(scores),
                **dict(zip(_GLU, (gate, up, down), strict=True)),
                "shared": tuple(_part(stack, i) for stack in shared),
                "shared_gate": _part(shared_gate, i),
            }
        )
    nbytes = float(np.mean(chosen)) * one + _nbytes(*shared, shared_gate) / count + 2 * x.nbytes
    note = "" if stored == g.num_experts else f"{stored} of {g.num_experts} experts"
    work = Work(nbytes, flops + 6.0 * tokens * hidden * shared_inner, _peak(dtype))
    return Setup(case, _evaluated(sets), work, note)


def _gated_delta(case: Case, g: Geometry, dtype: mx.Dtype, rng: np.random.Generator, cold: int, room: int) -> Setup:
    k_shape = (case.batch, case.tokens, g.linear_num_key_heads, g.linear_key_head_dim)
    v_shape = (case.batch, case.tokens, g.linear_num_value_heads, g.linear_value_head_dim)
    q, k = (_normal(rng, *k_shape, dtype=mx.float32) for _ in range(2))
    q, k = (array.astype(dtype) for array in normalize_qk(q, k, inv_scale=k_shape[-1] ** -0.5, eps=1e-6))
    v = _normal(rng, *v_shape, dtype=dtype)
    sets = [
        {"q": q, "k": k, "v": v, **gates, "state": state}
        for gates, state in _gates_and_states(g, v_shape, dtype, rng, cold)
    ]
    nbytes = _nbytes(q, k, v, v) + 2 * sets[0]["state"].nbytes
    return Setup(case, _evaluated(sets), Work(nbytes, _rule_flops(v_shape, k_shape[-1]), F32))


def _gated_delta_block(
    case: Case, g: Geometry, dtype: mx.Dtype, rng: np.random.Generator, cold: int, room: int
) -> Setup:
    v_shape = (case.batch, case.tokens, g.linear_num_value_heads, g.linear_value_head_dim)
    channels = _channels(g)
    qkv, z = _normal(rng, *v_shape[:2], channels, dtype=dtype), _normal(rng, *v_shape, dtype=dtype)
    fixed = {
        "conv_weight": _normal(rng, channels, TAPS, 1, dtype=dtype, scale=TAPS**-0.5),
        "norm_weight": _normal(rng, v_shape[-1], dtype=dtype, mean=1.0, scale=0.1),
        "conv_state": _normal(rng, case.batch, TAPS - 1, channels, dtype=dtype),
        "num_k_heads": g.linear_num_key_heads,
    }
    sets = [
        {"qkv": qkv, "z": z, **gates, **fixed, "state": state}
        for gates, state in _gates_and_states(g, v_shape, dtype, rng, cold)
    ]
    nbytes = _nbytes(qkv, z, z, fixed["conv_weight"]) + 2 * _nbytes(fixed["conv_state"], sets[0]["state"])
    conv = nn.Conv1d(channels, channels, TAPS, bias=False, groups=channels)
    conv.weight = fixed["conv_weight"]
    norm = Qwen3NextRMSNormGated(v_shape[-1])
    norm.weight = fixed["norm_weight"]
    work = Work(nbytes, _rule_flops(v_shape, g.linear_key_head_dim), F32)
    return Setup(case, _evaluated(sets), work, extra=(conv, norm))


def _gates_and_states(
    g: Geometry, v_shape: tuple[int, ...], dtype: mx.Dtype, rng: np.random.Generator, cold: int
) -> Iterator[tuple[Arguments, mx.array]]:
    """As many as are cold, with gates that forget little, as trained ones."""
    batch, tokens, heads, d_v = v_shape
    gates = {
        "a": _normal(rng, batch, tokens, heads, dtype=dtype),
        "b": _normal(rng, batch, tokens, heads, dtype=dtype),
        "A_log": mx.array(np.log(rng.uniform(1, 16, heads)).astype(np.float32)),
        "dt_bias": mx.array(rng.uniform(-6, -2, heads).astype(np.float32)),
    }
    shape = (batch, heads, d_v, g.linear_key_head_dim)
    for _ in range(_sets_for(cold, 4 * math.prod(shape))):
        yield gates, _normal(rng, *shape, dtype=mx.float32, scale=0.1)


def _channels(g: Geometry) -> int:
    """Of q, k and v together."""
    return 2 * g.linear_num_key_heads * g.linear_key_head_dim + g.linear_num_value_heads * g.linear_value_head_dim


def _rule_flops(v_shape: tuple[int, ...], d_k: int) -> float:
    return 6.0 * math.prod(v_shape) * d_k  # S k, the update and S q, as token by token


def _attention(case: Case, g: Geometry, dtype: mx.Dtype, rng: np.random.Generator, cold: int, room: int) -> Setup:
    heads, width = g.num_attention_heads, g.head_dim
    q = _normal(rng, case.batch, heads, case.tokens, width, dtype=dtype)
    gate = _normal(rng, case.batch, case.tokens, heads * width, dtype=dtype)
    shape = (case.batch, g.num_key_value_heads, case.depth, width)
    count = _sets_for(cold, 2 * math.prod(shape) * dtype.size)
    sets: list[Arguments] = [
        {
            "q": q,
            "k": _normal(rng, *shape, dtype=dtype),
            "v": _normal(rng, *shape, dtype=dtype),
            "scale": width**-0.5,
            "gate": gate,
            "causal": case.tokens > 1,
        }
        for _ in range(count)
    ]
    seen = case.tokens * case.depth - case.tokens * (case.tokens - 1) // 2
    flops = 4.0 * case.batch * heads * seen * width
    return Setup(case, _evaluated(sets), Work(_nbytes(sets[0]["k"], sets[0]["v"], q, gate, q), flops, F32))


_GLU = ("gate", "up", "down")
_SET_UP = {
    "attention": _attention,
    "gated_delta": _gated_delta,
    "gated_delta_block": _gated_delta_block,
    "moe_experts": _moe_experts,
    "moe_router": _moe_router,
    "qlinear": _qlinear,
    "rms_norm": _rms_norm,
}

# ---- mlx-lm's way: its own modules and functions where it has them, else the lines of its models ---------------------


def _linear(w: Quantized, columns: int, kind: Callable[..., Any], *shape: int) -> Any:
    """An mlx-lm layer with these weights; those that it draws are never evaluated."""
    layer = kind(
        columns, *shape, bias=False, group_size=columns // w.scales.shape[-1], bits=w.weight.shape[-1] * 32 // columns
    )
    layer.weight, layer.scales, layer.biases = w
    return layer


def _stock_mlp(gate: Quantized, up: Quantized, down: Quantized, hidden: int) -> Qwen3NextMLP:
    inner = gate.scales.shape[-2]
    block = Qwen3NextMLP(hidden, inner)
    block.gate_proj, block.up_proj = (_linear(w, hidden, nn.QuantizedLinear, inner) for w in (gate, up))
    block.down_proj = _linear(down, inner, nn.QuantizedLinear, hidden)
    return block


def _stock_moe_experts(
    x: mx.array,
    indices: mx.array,
    scores: mx.array,
    gate: Quantized,
    up: Quantized,
    down: Quantized,
    shared: tuple[Quantized, Quantized, Quantized] | None = None,
    shared_gate: Quantized | None = None,
) -> Call:
    hidden, (experts, inner, _) = x.shape[-1], gate.scales.shape
    if shared is None or shared_gate is None:
        return partial(_stock_mlp(*(_part(w, 0) for w in (gate, up, down)), hidden), x)
    switch = SwitchGLU(hidden, inner, experts)
    switch.gate_proj, switch.up_proj = (_linear(w, hidden, QuantizedSwitchLinear, inner, experts) for w in (gate, up))
    switch.down_proj = _linear(down, inner, QuantizedSwitchLinear, hidden, experts)
    mlp, gate_of_shared = _stock_mlp(*shared, hidden), _linear(shared_gate, hidden, nn.QuantizedLinear, 1)
    weights = scores.astype(x.dtype)
    mx.eval(weights)

    def call() -> mx.array:
        y = (switch(x, indices) * weights[..., None]).sum(axis=-2)
        return y + mx.sigmoid(gate_of_shared(x)) * mlp(x)

    return call


def _stock_moe_router(logits: mx.array, k: int) -> Call:
    def call() -> tuple[mx.array, mx.array]:
        gates = mx.softmax(logits, axis=-1, precise=True)
        indices = mx.argpartition(gates, kth=-k, axis=-1)[..., -k:]
        scores = mx.take_along_axis(gates, indices, axis=-1)
        return indices, scores / scores.sum(axis=-1, keepdims=True)

    return call


def _stock_gated_delta_block(
    conv: nn.Conv1d,
    norm: Qwen3NextRMSNormGated,
    qkv: mx.array,
    z: mx.array,
    a: mx.array,
    b: mx.array,
    A_log: mx.array,
    dt_bias: mx.array,
    conv_state: mx.array,
    state: mx.array,
    num_k_heads: int,
    **_: Any,
) -> Call:
    d_k = state.shape[-1]
    key_width = num_k_heads * d_k

    def call() -> tuple[mx.array, mx.array, mx.array]:
        seen = mx.concatenate([conv_state, qkv], axis=1)
        convolved = nn.silu(conv(seen))
        q, k, v = mx.split(convolved, [key_width, 2 * key_width], axis=-1)
        q, k = (part.reshape(*part.shape[:2], num_k_heads, d_k) for part in (q, k))
        q, k = normalize_qk(q, k, inv_scale=d_k**-0.5, eps=1e-6)
        y, new_state = gated_delta_update(q, k, v.reshape(z.shape), a, b, A_log, dt_bias, state)
        return norm(y, z), mx.contiguous(seen[:, -(TAPS - 1) :]), new_state

    return call


def _stock_attention(q: mx.array, k: mx.array, v: mx.array, scale: float, gate: mx.array, causal: bool) -> Call:
    def call() -> mx.array:
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask="causal" if causal else None)
        return y.transpose(0, 2, 1, 3).reshape(gate.shape) * mx.sigmoid(gate)

    return call


def _stock_qlinear(x: mx.array, w: Quantized) -> Call:
    return partial(mx.quantized_matmul, x, *w, transpose=True, group_size=GROUP_SIZE, bits=BITS)


_STOCK: dict[str, Callable[..., Call]] = {
    "attention": _stock_attention,
    "gated_delta": partial(partial, gated_delta_update),
    "gated_delta_block": _stock_gated_delta_block,
    "moe_experts": _stock_moe_experts,
    "moe_router": _stock_moe_router,
    "qlinear": _stock_qlinear,
    "rms_norm": partial(partial, mx.fast.rms_norm),
}


def _fast_gated_delta(
    q: mx.array, k: mx.array, v: mx.array, a: mx.array, b: mx.array, A_log: mx.array, dt_bias: mx.array, state: mx.array
) -> Call:
    """MLX's own kernel of the rule, with mlx-lm's gates."""

    def call() -> list[mx.array]:
        return mx.fast.gated_delta_update(q, k, v, compute_g(A_log, a, dt_bias), mx.sigmoid(b), state)

    return call
