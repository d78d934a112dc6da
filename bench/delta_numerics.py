"""What rounding does to the chunk form of the gated delta rule: the figures of docs/kernels/deltanet.md, in numpy.

    python bench/delta_numerics.py

One head, Dk = Dv = 64, 4,096 tokens, all in float32. The error is that of the state after a chunk against the
recurrence in float64, relative L2, of the worst chunk. Both are given the same float32 numbers, so the error is the
form's own. Names are the document's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import mlx.core as mx
import numpy as np

TOKENS, DIM, TILE = 4096, 64, 8
SLOW = np.log1p(-1e-4)
EVERY = 7  # a token in so many forgets

Ratios = Callable[[np.ndarray], np.ndarray]
Solve = Callable[[np.ndarray, np.ndarray], np.ndarray]
Decay = Callable[[np.ndarray, np.ndarray], np.ndarray]

FORGETTING = {"none": SLOW, "1e-6": np.log(1e-6), "e^-800": -800.0, "0": -np.inf}
KEYS = ["random", "nearly parallel"]


class Inputs(NamedTuple):
    """[T, DIM] or [T]"""

    k: np.ndarray
    v: np.ndarray
    log_g: np.ndarray
    beta: np.ndarray


def exact(inputs: Inputs, size: int) -> np.ndarray:
    """The states after each chunk of so many tokens, in float64."""
    k, v, log_g, beta = (x.astype(np.float64) for x in inputs)
    S = np.zeros((DIM, DIM))
    states = []
    for t in range(TOKENS):
        S = np.exp(log_g[t]) * S
        S += np.outer(beta[t] * (v[t] - S @ k[t]), k[t])
        if t % size == size - 1:
            states.append(S)
    return np.stack(states)


def token_by_token(inputs: Inputs, size: int, decay: Decay) -> np.ndarray:
    """The same states in float32."""
    k, v, log_g, beta = inputs
    S = np.zeros((DIM, DIM), np.float32)
    states = []
    for t in range(TOKENS):
        S = decay(log_g[t], S)
        S = fma(beta[t] * (v[t] - S @ k[t])[:, None], k[t], S)
        if t % size == size - 1:
            states.append(S)
    return np.stack(states)


def rounded(log_g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """g x, with g in float32."""
    return np.exp(log_g) * x


def near_one(log_g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """g x, with g - 1 in float32 where g > 1/2: what the kernels do."""
    return np.where(np.exp(log_g) > 0.5, fma(np.expm1(log_g), x, x), rounded(log_g, x))


def fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return (x.astype(np.float64) * y + z).astype(np.float32)


def chunked(inputs: Inputs, size: int, ratios: Ratios, solve: Solve) -> np.ndarray:
    """The same states, from the chunk form in float32."""
    k, v, log_g, beta = inputs
    S = np.zeros((DIM, DIM), np.float32)
    states = []
    for t in range(0, TOKENS, size):
        K, V, b = k[t : t + size], v[t : t + size], beta[t : t + size, None]
        ratio = ratios(log_g[t : t + size])  # G_c / G_j where j <= c
        log_G = np.cumsum(log_g[t : t + size, None], axis=0, dtype=np.float32)
        L = np.tril(b * ratio * (K @ K.T), -1)
        X = solve(L, b * (V - near_one(log_G, K @ S.T)))
        S = near_one(log_G[-1], S) + X.T @ (ratio[-1][:, None] * K)
        states.append(S)
    return np.stack(states)


def sums(log_g: np.ndarray) -> np.ndarray:
    """Running sums down each column."""
    terms = np.tril(np.broadcast_to(log_g[:, None], (len(log_g), len(log_g))), -1)
    return np.tril(np.exp(np.cumsum(terms, axis=0, dtype=np.float32)))


def differences(log_g: np.ndarray) -> np.ndarray:
    """Of prefix sums; the upper triangle never reaches exp."""
    prefix = np.cumsum(log_g, dtype=np.float32)
    lower = np.tri(len(log_g), dtype=bool)
    return np.exp(np.where(lower, prefix[:, None] - prefix, -np.inf))


def quotients(log_g: np.ndarray) -> np.ndarray:
    """Of prefix products."""
    prefix = np.cumprod(np.exp(log_g), dtype=np.float32)
    return np.tril(prefix[:, None] / prefix)


def rows(L: np.ndarray, R: np.ndarray) -> np.ndarray:
    """(I + L)^-1 R, a row after another."""
    X = R.copy()
    for c in range(1, len(L)):
        X[c] -= L[c, :c] @ X[:c]
    return X


def tiles(L: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Eight rows after another, by the inverses of the tiles on the diagonal: what the shaders do."""
    X = np.zeros_like(R)
    for c in range(0, len(L), TILE):
        own, before = slice(c, c + TILE), slice(0, c)
        X[own] = rows(L[own, own], np.eye(TILE, dtype=np.float32)) @ (R[own] - L[own, before] @ X[before])
    return X


def squaring(L: np.ndarray, R: np.ndarray) -> np.ndarray:
    """The Neumann series, (I - L) (I + L^2) (I + L^4) ... R."""
    eye = np.eye(len(L), dtype=np.float32)
    inverse, power = eye - L, L
    for _ in range(len(L).bit_length() - 2):
        power = power @ power
        inverse = inverse @ (eye + power)
    return inverse @ R


def case(keys: str, forgetting: float, largest_beta: float) -> Inputs:
    rng = np.random.default_rng(0)
    k = rng.normal(size=(TOKENS, DIM))
    if keys != "random":
        k = rng.normal(size=DIM) + 0.1 * k
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    log_g = np.full(TOKENS, SLOW)
    log_g[EVERY // 2 :: EVERY] = forgetting
    beta = largest_beta * rng.uniform(size=TOKENS)
    return Inputs(*(x.astype(np.float32) for x in (k, rng.normal(size=(TOKENS, DIM)), log_g, beta)))


def error(got: np.ndarray, want: np.ndarray) -> str:
    norms = [np.linalg.norm(x, axis=(1, 2)) for x in (got - want, want)]
    return f"{np.max(norms[0] / norms[1]):.1e}"


def in_bfloat16(x: np.ndarray) -> np.ndarray:
    return np.array(mx.array(x.astype(np.float32)).astype(mx.bfloat16).astype(mx.float32))


def lines() -> Iterator[str]:
    yield "G_c / G_j: one token in 7 forgets by this factor, the others have g = 1 - 1e-4; random keys, beta in (0, 1)"
    for size in (16, 64):
        for name, forgetting in FORGETTING.items():
            inputs = case("random", forgetting, 1)
            want = exact(inputs, size)
            errors = [
                f"{m.__name__} {error(chunked(inputs, size, m, tiles), want)}" for m in (sums, differences, quotients)
            ]
            yield f"  C = {size}, {name:6}: " + ", ".join(errors)
    yield "The triangular system: g = 1 - 1e-4"
    for keys in KEYS:
        for largest in (1, 2):
            inputs = case(keys, SLOW, largest)
            for size in (8, 16, 32, 64):
                want = exact(inputs, size)
                errors = [
                    f"{m.__name__} {error(chunked(inputs, size, sums, m), want)}" for m in (rows, tiles, squaring)
                ]
                yield f"  {keys} keys, beta in (0, {largest}), C = {size}: " + ", ".join(errors)
    yield "Token by token: g = 1 - 1e-4, beta in (0, 1)"
    for keys in KEYS:
        inputs = case(keys, SLOW, 1)
        want = exact(inputs, 1)
        errors = [f"{m.__name__} {error(token_by_token(inputs, 1, m), want)}" for m in (rounded, near_one)]
        yield f"  {keys} keys: " + ", ".join(errors)
    yield "Gates in bfloat16, all else in float64; every token has the same gate, random keys, the last state"
    for decay in (1e-4, 1e-3, 1e-2):
        inputs = case("random", SLOW, 1)._replace(log_g=np.full(TOKENS, np.log1p(-decay)))
        want = exact(inputs, TOKENS)
        got = exact(inputs._replace(log_g=np.log(in_bfloat16(np.exp(inputs.log_g)))), TOKENS)
        yield f"  g = 1 - {decay:g}: {error(got, want)}"


if __name__ == "__main__":
    np.seterr(all="ignore")  # 0 / 0 and the like are what is shown
    for line in lines():
        print(line)
