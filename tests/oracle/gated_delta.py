"""Oracle of ``deltamoe.ops.gated_delta``."""

from __future__ import annotations

import numpy as np

from tests.oracle.maths import sigmoid, softplus


def gated_delta(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    A_log: np.ndarray,
    dt_bias: np.ndarray,
    state: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    *,
    allow_neg_eigval: bool = False,
    snapshots: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The recurrence, one token and one head at a time; with snapshots the states after that many last tokens."""
    batch, steps, k_heads, d_k = q.shape
    v_heads, d_v = v.shape[2:]
    out_state = np.zeros((batch, v_heads, d_v, d_k)) if state is None else state.copy()
    keep = token_mask(batch, steps, mask, lengths)
    y = np.zeros((batch, steps, v_heads, d_v))
    kept = np.zeros((batch, snapshots, v_heads, d_v, d_k))
    channels = d_k if a.ndim == 4 else 1
    a, dt_bias = a.reshape(batch, steps, v_heads, channels), dt_bias.reshape(v_heads, channels)
    decay = np.exp(-np.exp(A_log.reshape(v_heads, 1)) * softplus(a + dt_bias))
    beta = sigmoid(b) * (2.0 if allow_neg_eigval else 1.0)
    for i in range(batch):
        for h in range(v_heads):
            shared_head = h // (v_heads // k_heads)
            S = out_state[i, h]
            for t in range(steps):
                if keep[i, t]:
                    key, query = k[i, t, shared_head], q[i, t, shared_head]
                    S = S * decay[i, t, h]
                    S = S + beta[i, t, h] * np.outer(v[i, t, h] - S @ key, key)
                    y[i, t, h] = S @ query
                if t >= steps - snapshots:
                    kept[i, t - (steps - snapshots), h] = S
            out_state[i, h] = S
    return y, kept if snapshots else out_state


def token_mask(batch: int, steps: int, mask: np.ndarray | None, lengths: np.ndarray | None) -> np.ndarray:
    """Which tokens count: ``[B, T]`` bool."""
    keep = np.ones((batch, steps), bool) if mask is None else mask.astype(bool)
    if lengths is not None:
        keep = keep & (np.arange(steps) < lengths[:, None])
    return keep
