"""The ops: fused building blocks of Qwen3.5-class models on MLX arrays.

Every op takes MLX's own quantised layout, returns lazy MLX arrays, and works under ``mx.grad``, ``mx.vmap`` and
``mx.compile`` (through a plain-MLX twin). On the CPU it runs our vectorised kernel; on a device that has no kernel of
ours it builds the plain-MLX twin instead, with the same result.

All ops take a keyword ``stream``: an ``mx.Stream``, an ``mx.Device`` or ``None`` for the default.
"""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from deltamoe import _ext

StreamLike = mx.Stream | mx.Device | None

__all__ = [
    "Quantized",
    "attention",
    "gated_delta",
    "gated_delta_block",
    "moe_experts",
    "moe_router",
    "qlinear",
    "rms_norm",
]


class Quantized(NamedTuple):
    """An affine-quantised matrix in MLX's layout, as ``mx.quantize`` returns it.

    ``w[..., n, k] = scales[..., n, k // group_size] * code[..., n, k] + biases[..., n, k // group_size]``

    Args:
        weight: codes, ``[..., N, K * bits / 32]`` uint32, the lowest bits of a word first.
        scales: ``[..., N, K / group_size]`` float32, float16 or bfloat16.
        biases: as ``scales``.

    ``bits`` (4 or 8) and ``group_size`` (32, 64 or 128) follow from the shapes and the activations' width ``K``: so
    activations of half the width take a 4-bit matrix for an 8-bit one of half the group size, if there is such a size.
    """

    weight: mx.array
    scales: mx.array
    biases: mx.array


def qlinear(x: mx.array, w: Quantized, *, stream: StreamLike = None) -> mx.array:
    """Multiply by a quantised matrix: ``y = x @ w.T``.

    Args:
        x: ``[..., K]`` float32, float16 or bfloat16.
        w: ``[N, K]``, 4 or 8 bits, group size 32, 64 or 128.

    Returns:
        ``[..., N]`` in x's dtype, accumulated in float32.

    Raises:
        ValueError: shapes, dtypes, bits or group size that do not fit.
    """
    return _ext.qlinear(x, w, stream=stream)


def moe_router(
    logits: mx.array, k: int, normalize: bool = True, *, stream: StreamLike = None
) -> tuple[mx.array, mx.array]:
    """Choose the ``k`` most probable experts of each token.

    ``p = softmax(logits)`` in float32; the ``k`` largest, of equal ones those with the larger index (as
    ``mx.argpartition`` chooses); divided by their sum if ``normalize``.

    Args:
        logits: ``[..., E]`` float32, float16 or bfloat16.
        k: experts per token, 1 to E.
        normalize: whether the chosen probabilities are scaled to sum to 1.

    Returns:
        ``indices`` ``[..., k]`` uint32 and ``scores`` ``[..., k]`` float32, ascending by (probability, index). A row
        that holds a NaN, or +inf, or nothing but -inf has NaN scores and valid indices.

    Raises:
        ValueError: ``k`` out of range, or logits of another dtype or without axes.
    """
    return _ext.moe_router(logits, k, normalize, stream=stream)


def moe_experts(
    x: mx.array,
    indices: mx.array,
    scores: mx.array,
    gate: Quantized,
    up: Quantized,
    down: Quantized,
    shared: tuple[Quantized, Quantized, Quantized] | None = None,
    shared_gate: Quantized | None = None,
    *,
    stream: StreamLike = None,
) -> mx.array:
    """Run the routed experts (and the shared one) of a sparse MoE block.

    ``y = sum_j scores[j] * mlp(x; indices[j]) + sigmoid(x @ shared_gate.T) * mlp(x; shared)`` with
    ``mlp(x) = down @ (silu(gate @ x) * (up @ x))``. Without ``shared_gate`` the shared expert has weight 1.

    Args:
        x: ``[..., H]`` float32, float16 or bfloat16.
        indices: ``[..., k]`` any integer dtype, each in ``[0, E)``; an expert may be named twice.
        scores: ``[..., k]`` float32, float16 or bfloat16.
        gate, up: ``[E, I, H]``, of the same bits and group size.
        down: ``[E, H, I]``.
        shared: gate ``[I', H]``, up ``[I', H]`` and down ``[H, I']`` of the shared expert.
        shared_gate: ``[1, H]``.

    Returns:
        ``[..., H]`` in x's dtype, accumulated in float32.

    Raises:
        ValueError: shapes, dtypes, bits or group sizes that do not fit.
        RuntimeError: at evaluation (MLX gives errors of its worker threads this type), if an index is negative or at
            least E. Nothing is read out of bounds.
    """
    return _ext.moe_experts(x, indices, scores, gate, up, down, shared, shared_gate, stream=stream)


def gated_delta(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    a: mx.array,
    b: mx.array,
    A_log: mx.array,
    dt_bias: mx.array,
    state: mx.array | None = None,
    mask: mx.array | None = None,
    lengths: mx.array | None = None,
    *,
    allow_neg_eigval: bool = False,
    snapshots: int = 0,
    stream: StreamLike = None,
) -> tuple[mx.array, mx.array]:
    """The gated delta rule (arXiv 2412.06464) over T tokens.

    For each head, with ``S`` the ``[Dv, Dk]`` state::

        g    = exp(-exp(A_log) * softplus(a + dt_bias))
        beta = sigmoid(b)                      (2 * sigmoid(b) with allow_neg_eigval)
        S    = S * g
        S    = S + beta * (v - S k) k^T
        y    = S q

    q and k come normalised (and q scaled by ``Dk ** -0.5``), as mlx-lm's ``normalize_qk`` leaves them.

    Args:
        q, k: ``[B, T, Hk, Dk]`` float32, float16 or bfloat16; Dk a multiple of 32, at most 256.
        v: ``[B, T, Hv, Dv]`` as q; Hv a multiple of Hk, Dv a multiple of 32, at most 256.
        a: ``[B, T, Hv]``, or ``[B, T, Hv, Dk]`` for a gate per key channel.
        b: ``[B, T, Hv]``.
        A_log: ``[Hv]``, or ``[Hv, 1]``.
        dt_bias: ``[Hv]``, or ``[Hv, Dk]`` with a gate per channel.
        state: ``[B, Hv, Dv, Dk]`` float32; zeros if None.
        mask: ``[B, T]`` bool; a token with False leaves the state alone and yields 0.
        lengths: ``[B]`` integer; tokens at or beyond it are masked.
        allow_neg_eigval: beta in (0, 2).
        snapshots: N from 1 to T keeps the states after each of the last N tokens, to go back to; not with ``lengths``.

    Returns:
        ``y`` ``[B, T, Hv, Dv]`` in q's dtype and the new state, float32: as ``state``, or with snapshots
        ``[B, N, Hv, Dv, Dk]``, the newest last. Gates and state are float32 throughout.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    return _ext.gated_delta(
        q,
        k,
        v,
        a,
        b,
        A_log,
        dt_bias,
        state,
        mask,
        lengths,
        allow_neg_eigval=allow_neg_eigval,
        snapshots=snapshots,
        stream=stream,
    )


def gated_delta_block(
    qkv: mx.array,
    z: mx.array,
    a: mx.array,
    b: mx.array,
    conv_weight: mx.array,
    A_log: mx.array,
    dt_bias: mx.array,
    norm_weight: mx.array,
    conv_state: mx.array | None = None,
    state: mx.array | None = None,
    mask: mx.array | None = None,
    lengths: mx.array | None = None,
    *,
    num_k_heads: int,
    norm_eps: float = 1e-6,
    snapshots: int = 0,
    stream: StreamLike = None,
) -> tuple[mx.array, mx.array, mx.array]:
    """All of a Gated DeltaNet layer between its projections.

    1. causal depthwise conv1d over ``[conv_state, qkv]``, then silu;
    2. split into q, k ``[Hk, Dk]`` and v ``[Hv, Dv]``; ``q / sqrt(sum(q^2) + 1e-6) * Dk ** -0.5``, k likewise unscaled;
    3. the gated delta rule, as :func:`gated_delta`;
    4. ``y = rms_norm(y, norm_weight, norm_eps) * silu(z)``.

    Args:
        qkv: ``[B, T, C]`` float32, float16 or bfloat16, ``C = 2 * Hk * Dk + Hv * Dv``.
        z: ``[B, T, Hv, Dv]`` as qkv.
        a, b: ``[B, T, Hv]``.
        conv_weight: ``[C, K, 1]`` float32, float16 or bfloat16, K from 2 to 8.
        A_log, dt_bias: ``[Hv]``.
        norm_weight: ``[Dv]``.
        conv_state: ``[B, K - 1, C]`` in qkv's dtype, the last K - 1 inputs; zeros if None.
        state: ``[B, Hv, Dv, Dk]`` float32; zeros if None.
        mask: ``[B, T]`` bool; where False, qkv counts as 0 in the convolution, the state stays and y is 0.
        lengths: ``[B]`` integer; tokens at or beyond it are masked, and the new conv_state ends at it.
        num_k_heads: Hk.
        norm_eps: of step 4.
        snapshots: N from 1 to T keeps what the layer was after each of the last N tokens, to go back to; not with
            ``lengths``.

    Returns:
        ``y`` ``[B, T, Hv, Dv]`` in qkv's dtype, the new conv_state and the new state. With snapshots the states are
        ``[B, N, Hv, Dv, Dk]``, the newest last, and conv_state has the last ``K - 1 + N - 1`` inputs: after the token
        of ``state[:, i]`` the layer goes on from that and ``conv_state[:, i : i + K - 1]``.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    return _ext.gated_delta_block(
        qkv,
        z,
        a,
        b,
        conv_weight,
        A_log,
        dt_bias,
        norm_weight,
        conv_state,
        state,
        mask,
        lengths,
        num_k_heads=num_k_heads,
        norm_eps=norm_eps,
        snapshots=snapshots,
        stream=stream,
    )


def rms_norm(x: mx.array, weight: mx.array | None, eps: float, *, stream: StreamLike = None) -> mx.array:
    """Root-mean-square normalisation over the last axis: ``x / sqrt(mean(x^2) + eps) * weight``.

    Args:
        x: ``[..., D]`` float32, float16 or bfloat16.
        weight: ``[D]``, or None for 1.
        eps: added to the mean square.

    Returns:
        As x; computed in float32, rounded once.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    return _ext.rms_norm(x, weight, eps, stream=stream)


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    scale: float,
    gate: mx.array | None = None,
    *,
    causal: bool = True,
    stream: StreamLike = None,
) -> mx.array:
    """Grouped-query attention with an optional output gate.

    ``y = softmax(scale * q k^T) v * sigmoid(gate)``. Query ``i`` of T sees keys up to ``S - T + i`` if ``causal``,
    else all.

    Args:
        q: ``[B, Hq, T, D]`` float32, float16 or bfloat16; D a multiple of 16, at most 512.
        k, v: ``[B, Hkv, S, D]`` as q, S at least T if causal; slices of a cache are read in place.
        scale: multiplies the scores.
        gate: ``[B, T, Hq * D]`` as q.

    Returns:
        ``[B, T, Hq * D]`` in q's dtype: heads already merged for the output projection.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    return _ext.attention(q, k, v, scale, gate, causal=causal, stream=stream)
