"""Oracle of ``deltamoe.ops.gated_delta_block``."""

from __future__ import annotations

import numpy as np

from tests.oracle.gated_delta import gated_delta, token_mask
from tests.oracle.maths import silu
from tests.oracle.rms_norm import rms_norm

NORMALIZE_EPS = 1e-6


def gated_delta_block(
    qkv: np.ndarray,
    z: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    conv_weight: np.ndarray,
    A_log: np.ndarray,
    dt_bias: np.ndarray,
    norm_weight: np.ndarray,
    conv_state: np.ndarray | None = None,
    state: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    *,
    num_k_heads: int,
    norm_eps: float = 1e-6,
    snapshots: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """conv1d, silu, q/k normalisation, the gated delta rule and the gated RMSNorm; with snapshots the states after that
    many last tokens, and all that their convolutions reach back to.
    """
    batch, steps, channels = qkv.shape
    v_heads, d_v = z.shape[2:]
    d_k = (channels - v_heads * d_v) // (2 * num_k_heads)
    taps = conv_weight.shape[1]
    keep = token_mask(batch, steps, mask, lengths)

    before = np.zeros((batch, taps - 1, channels)) if conv_state is None else conv_state
    # mask zeroes what the convolution sees; lengths alone cuts the conv_state
    seen = np.concatenate([before, np.where(keep[..., None], qkv, 0.0)], axis=1)
    convolved = np.zeros_like(qkv)
    for t in range(steps):
        convolved[:, t] = (seen[:, t : t + taps] * conv_weight[:, :, 0].T).sum(axis=1)
    ends = np.full(batch, steps) if lengths is None else np.clip(lengths, 0, steps)
    more = max(snapshots - 1, 0)
    new_conv_state = np.stack([seen[i, end - more : end + taps - 1] for i, end in enumerate(ends)])

    q, k, v = np.split(silu(convolved), [num_k_heads * d_k, 2 * num_k_heads * d_k], axis=-1)
    q = normalized(q.reshape(batch, steps, num_k_heads, d_k)) * d_k**-0.5
    k = normalized(k.reshape(batch, steps, num_k_heads, d_k))
    v = v.reshape(batch, steps, v_heads, d_v)
    y, new_state = gated_delta(q, k, v, a, b, A_log, dt_bias, state, mask, lengths, snapshots=snapshots)
    (y,) = rms_norm(y, norm_weight, norm_eps)
    return y * silu(z), new_conv_state, new_state


def normalized(x: np.ndarray) -> np.ndarray:
    """x at length 1."""
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True) + NORMALIZE_EPS)
