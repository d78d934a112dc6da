"""The ops against the plain MLX ops they replace, at one layer's shapes of 35B-A3B (but 32 experts)."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from deltamoe import ops

HIDDEN, INTERMEDIATE, EXPERTS, K = 2048, 512, 32, 8
GROUP, BITS = 64, 4


def quantized(*shape: int) -> ops.Quantized:
    """Random codes with scales that keep products near 1."""
    *rows, cols = shape
    codes = mx.random.randint(0, 2**31 - 1, (*rows, cols * BITS // 32)).astype(mx.uint32)
    scales = mx.full((*rows, cols // GROUP), 0.2 * cols**-0.5, dtype=mx.bfloat16)
    w = ops.Quantized(codes, scales, -8 * scales)
    mx.eval(w)
    return w


def stock_qlinear(x: mx.array, w: ops.Quantized) -> mx.array:
    return mx.quantized_matmul(x, *w, transpose=True, group_size=GROUP, bits=BITS)


def stock_experts(
    x: mx.array, indices: mx.array, scores: mx.array, gate: ops.Quantized, up: ops.Quantized, down: ops.Quantized
) -> mx.array:
    def multiply(x: mx.array, w: ops.Quantized) -> mx.array:
        return mx.gather_qmm(x, *w, rhs_indices=indices, transpose=True, group_size=GROUP, bits=BITS)

    x = mx.expand_dims(x, (-2, -3))
    y = multiply(nn.silu(multiply(x, gate)) * multiply(x, up), down).squeeze(-2)
    return (y * scores[..., None].astype(y.dtype)).sum(axis=-2)


@pytest.mark.parametrize("tokens", [1, 16])
@pytest.mark.parametrize("op", [stock_qlinear, ops.qlinear])
def test_qlinear(benchmark: BenchmarkFixture, op: Callable[..., mx.array], tokens: int) -> None:
    benchmark.group = f"qlinear {HIDDEN} -> 4096, bf16, {tokens} tokens"
    x, w = mx.random.normal((tokens, HIDDEN)).astype(mx.bfloat16), quantized(4096, HIDDEN)
    mx.eval(x)
    benchmark(lambda: mx.eval(op(x, w)))


@pytest.mark.parametrize("tokens", [1, 16])
@pytest.mark.parametrize("op", [stock_experts, ops.moe_experts])
def test_moe_experts(benchmark: BenchmarkFixture, op: Callable[..., mx.array], tokens: int) -> None:
    benchmark.group = f"moe_experts {K} of {EXPERTS}, {HIDDEN} x {INTERMEDIATE}, bf16, {tokens} tokens"
    x = mx.random.normal((tokens, HIDDEN)).astype(mx.bfloat16)
    indices, scores = ops.moe_router(mx.random.normal((tokens, EXPERTS)), K)
    gate, up = quantized(EXPERTS, INTERMEDIATE, HIDDEN), quantized(EXPERTS, INTERMEDIATE, HIDDEN)
    down = quantized(EXPERTS, HIDDEN, INTERMEDIATE)
    mx.eval(x, indices, scores)
    benchmark(lambda: mx.eval(op(x, indices, scores, gate, up, down)))
