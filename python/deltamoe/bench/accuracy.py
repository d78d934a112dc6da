"""The gated delta rule over many tokens: errors against float64 of our kernels, MLX core's and mlx-lm's.

Everyone starts from the same q, k, v, a and b. Where others' kernels take g and beta, those are what mlx-lm computes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from deltamoe import _ext
from deltamoe.bench import gdn
from deltamoe.bench.gdn import CORE, MLX_LM
from deltamoe.bench.report import Bar, bar, tokens_in_words
from deltamoe.bench.simulate import Array, mlx_metallib, run_plan
from deltamoe.bench.stock import gated_delta as stock
from deltamoe.errors import DeltamoeError

__all__ = ["CASES", "MEASURES", "SIDES", "WIDTH", "Case", "Report", "Row", "roundoff", "run"]

WIDTH = 128
"""Dk and Dv: MLX core has kernels of no other."""
OURS = {"ours, sequential": gdn.SEQUENTIAL} | {f"ours, C = {chunk}": chunk for chunk in gdn.CHUNKS}
SIDES = (*OURS, CORE, MLX_LM)
MEASURES = ("state", "output")

GATES = ("constant", "slow", "mixed", "fast")
BETAS = ("(0, 1)", "(0, 2)")
KEYS = ("random", "nearly parallel")

MOST_OF_STATE = 1e-5
"""With float32 inputs."""
MOST_OF_OUTPUT = 2.0**-9
"""With bfloat16 inputs: rounding y to bfloat16 alone makes 0.85 of it."""
LEAST_BETTER = 10
"""Than MLX core in the state, with bfloat16 inputs and slow decay."""


@dataclass(frozen=True)
class Case:
    """What the inputs are like."""

    dtype: str
    gates: str
    """constant: 1 - 1e-4; slow: 1 - 1e-4 to 1 - 1e-3; mixed: 1e-6 to 1 - 1e-4; fast: 1e-6 to 0.4."""
    beta: str
    keys: str


CASES = tuple(Case(*each) for each in itertools.product(("float32", "bfloat16"), GATES, BETAS, KEYS))


@dataclass(frozen=True)
class Row:
    """The relative L2 errors of a case, by side and measure."""

    case: Case
    errors: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Report:
    """All errors."""

    tokens: int
    metallib: str | None
    rows: tuple[Row, ...]
    bars: tuple[Bar, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"unit": "relative L2 error"}


def run(tokens: int, cases: Sequence[Case] = CASES, step: Callable[[str], object] = lambda text: None) -> Report:
    """Run all sides on all cases.

    Args:
        step: told what comes next.

    Raises:
        DeltamoeError: too few tokens for MLX core's kernel.
    """
    if tokens <= stock.CORE_CHUNK:
        raise DeltamoeError(f"{tokens} tokens are too few: at least {stock.CORE_CHUNK + 1}, as MLX core's kernel takes")
    metallib = mlx_metallib()
    rows = []
    for number, case in enumerate(cases, 1):
        step(f"{number} of {len(cases)}: {case.dtype}, {case.gates} gates, beta in {case.beta}, {case.keys} keys")
        rows.append(_row(case, tokens, metallib))
    return Report(tokens, str(metallib) if metallib else None, tuple(rows), tuple(_bars(rows, tokens)))


# ---- one case ----


@dataclass(frozen=True)
class _Inputs:
    """One sequence of one head."""

    q: mx.array
    k: mx.array
    v: mx.array
    a: mx.array
    b: mx.array
    A_log: mx.array
    dt_bias: mx.array
    state: mx.array
    allow_neg_eigval: bool


def _row(case: Case, tokens: int, metallib: Path | None) -> Row:
    inputs = _inputs(case, tokens)
    y, state = _float64(inputs)
    found = {name: _ours(inputs, chunk) for name, chunk in OURS.items()}
    found |= {CORE: _core(inputs, metallib), MLX_LM: _mlx_lm(inputs)}
    return Row(
        case,
        {name: {"state": _error(s, state), "output": _error(o, y)} for name, (o, s) in found.items()},
    )


def _inputs(case: Case, tokens: int) -> _Inputs:
    rng = np.random.default_rng(tokens)
    dtype = getattr(mx, case.dtype)
    q, k = _unit(rng.standard_normal((2, tokens, WIDTH)))
    if case.keys == "nearly parallel":
        k = _unit(_unit(rng.standard_normal(WIDTH)) + 0.1 * k)
    decay = _decay(case.gates, rng, tokens)  # -log g = softplus(a)

    def array(values: Array, *shape: int, dtype: mx.Dtype = dtype) -> mx.array:
        return mx.array(values.reshape(shape).astype(np.float32)).astype(dtype)

    return _Inputs(
        q=array(q * WIDTH**-0.5, 1, tokens, 1, WIDTH),
        k=array(k, 1, tokens, 1, WIDTH),
        v=array(rng.standard_normal((tokens, WIDTH)), 1, tokens, 1, WIDTH),
        a=array(np.log(np.expm1(decay)), 1, tokens, 1),
        b=array(rng.standard_normal(tokens), 1, tokens, 1),
        A_log=mx.zeros(1),
        dt_bias=mx.zeros(1, dtype),
        state=array(rng.standard_normal((WIDTH, WIDTH)), 1, 1, WIDTH, WIDTH, dtype=mx.float32),
        allow_neg_eigval=case.beta == "(0, 2)",
    )


def _decay(gates: str, rng: np.random.Generator, tokens: int) -> Array:
    """-log g"""
    if gates == "constant":
        return np.full(tokens, 1e-4)
    most = -np.log(1e-6)
    low, high = {"slow": (1e-4, 1e-3), "mixed": (1e-4, most), "fast": (1.0, most)}[gates]
    return np.exp(rng.uniform(np.log(low), np.log(high), tokens))


def _unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _float64(x: _Inputs) -> tuple[Array, Array]:
    """The rule, all rows of the state together."""
    q, k, v, a, b, state = (_numbers(each) for each in (x.q, x.k, x.v, x.a, x.b, x.state))
    S = state.reshape(WIDTH, WIDTH)
    rate, bias = np.exp(_numbers(x.A_log)), _numbers(x.dt_bias)
    g = np.exp(-rate * np.logaddexp(a.reshape(-1) + bias, 0))
    beta = (2 if x.allow_neg_eigval else 1) / (1 + np.exp(-b.reshape(-1)))
    y = np.empty_like(v)
    for t in range(len(g)):
        S = g[t] * S
        key = k[0, t, 0]
        S += np.outer(beta[t] * (v[0, t, 0] - S @ key), key)
        y[0, t, 0] = S @ q[0, t, 0]
    return y, S.reshape(state.shape)


def _ours(x: _Inputs, chunk: int) -> tuple[Array, Array]:
    (_, tokens, _, width), dtype = x.q.shape, str(x.q.dtype).removeprefix("mlx.core.")
    plan = _ext.plan_gated_delta(
        batch=1,
        tokens=tokens,
        k_heads=1,
        v_heads=1,
        dk=width,
        dv=width,
        dtype=dtype,
        gates=dtype,
        A_log="float32",
        dt_bias=dtype,
        state=True,
        allow_neg_eigval=x.allow_neg_eigval,
        chunk=chunk,
    )
    assert plan is not None
    inputs = dict(enumerate(map(stock.bits, (x.q, x.k, x.v, x.a, x.b, x.A_log, x.dt_bias, x.state))))
    y, state = np.empty_like(inputs[2]), np.empty_like(inputs[7])
    run_plan(plan, inputs, [y, state], counted=False)
    return y, state


def _core(x: _Inputs, metallib: Path | None) -> tuple[Array, Array]:
    """One head of the fewest that MLX core has a kernel for; the others are 0 and not run."""
    heads = stock.FEWEST_CORE_HEADS
    g, beta = stock.gates(x.a, x.b, x.A_log, x.dt_bias, allow_neg_eigval=x.allow_neg_eigval)

    def among(array: mx.array, axis: int) -> mx.array:
        return mx.pad(array, [(0, heads - 1 if i == axis else 0) for i in range(array.ndim)])

    q, k, v, g, beta = (among(each, 2) for each in (x.q, x.k, x.v, g, beta))
    launch = stock.core(stock.Inputs(q, k, v, g, beta, among(x.state, 1)), heads=1)
    launch.run(metallib, counted=False)
    return np.asarray(launch.buffers["y"])[:, :, :1], np.asarray(launch.buffers["state_out"])[:, :1]


def _mlx_lm(x: _Inputs) -> tuple[Array, Array]:
    g, beta = stock.gates(x.a, x.b, x.A_log, x.dt_bias, allow_neg_eigval=x.allow_neg_eigval)
    launch = stock.mlx_lm(stock.Inputs(x.q, x.k, x.v, g, beta, x.state))
    launch.run(counted=False)
    return np.asarray(launch.buffers["y"]), np.asarray(launch.buffers["state_out"])


def _numbers(array: mx.array) -> Array:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def _error(got: Array, want: Array) -> float:
    """Relative, in L2; infinite where there is no number."""
    if got.dtype == np.uint16:  # bfloat16
        got = (got.astype(np.uint32) << 16).view(np.float32)
    error = float(np.linalg.norm(got.astype(np.float64) - want) / np.linalg.norm(want))
    return error if np.isfinite(error) else float("inf")


# ---- bars ----


def roundoff(tokens: int) -> float:
    """What rounding to float32 once per token comes to, in a random walk: errors below it are taken for equal."""
    return 2.0**-24 * float(tokens) ** 0.5


def _bars(rows: Sequence[Row], tokens: int) -> Iterator[Bar]:
    """All by the worst row."""
    least = roundoff(tokens)
    for ours in OURS:
        case = f"{tokens_in_words(tokens)}: {ours}"
        for theirs, what in itertools.product((CORE, MLX_LM), MEASURES):
            ratio = max(max(row.errors[ours][what], least) / max(row.errors[theirs][what], least) for row in rows)
            yield bar(case, f"error of the {what} / {theirs}'s", ratio, "<= 1")
        exact = [row.errors[ours]["state"] for row in rows if row.case.dtype == "float32"]
        rounded = [row.errors[ours]["output"] for row in rows if row.case.dtype == "bfloat16"]
        slow = [row for row in rows if row.case.dtype == "bfloat16" and row.case.gates in ("constant", "slow")]
        if exact:
            yield bar(case, "error of the state, float32", max(exact), f"<= {MOST_OF_STATE}")
        if rounded:
            yield bar(case, "error of the output, bfloat16", max(rounded), f"<= {MOST_OF_OUTPUT:.3g}")
        if slow:
            ratio = min(row.errors[CORE]["state"] / row.errors[ours]["state"] for row in slow)
            yield bar(case, f"{CORE}'s error of the state / ours, bfloat16, slow decay", ratio, f">= {LEAST_BETTER}")
