"""Kernels whose source is in no header: only mlx.metallib has them."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np

from tests import oracle
from tests.arrays import F32, normal, numpy_of
from tests.sim.launches.launch import NAME, ROUNDOFF, Buffer, Launch, Result
from tests.sim.launches.rows import row_threads


def scaling_error(dtype: mx.Dtype) -> float:
    """Relative, of x / sqrt(mean(x^2)) * w with both factors' product and the quotient rounded to dtype.

    Before that, in float32: at most 40 roundings of a sum of positive numbers, in a tree.
    """
    return (1 + ROUNDOFF[dtype]) ** 2 - 1 + 40 * ROUNDOFF[F32]


def rms_norm(rng: np.random.Generator, dtype: mx.Dtype, *, width: int, looped: bool = False) -> Launch:
    """x / sqrt(mean(x^2) + eps) * w"""
    x, w = normal(rng, 2, width, dtype=dtype), normal(rng, width, dtype=dtype)
    (want,) = oracle.rms_norm(numpy_of(x), numpy_of(w), 1e-6)
    scalars = {"eps": np.float32(1e-6), "axis_size": np.uint32(width), "w_stride": np.uint32(1)}
    return Launch(
        f"rms{'_looped' if looped else ''}{NAME[dtype]}",
        grid=(2, 1, 1),
        threadgroup=(row_threads(width, looped=looped), 1, 1),
        buffers={"x": x, "w": w, **scalars},
        results={"out": Result(dtype, want, None if dtype == F32 else np.abs(want) * scaling_error(dtype))},
        constants={20: True},
    )


def layer_norm(rng: np.random.Generator, dtype: mx.Dtype, *, width: int) -> Launch:
    """(x - mean(x)) / sqrt(var(x) + eps) * w + b"""
    x, w, b = normal(rng, 2, width, dtype=dtype), normal(rng, width, dtype=dtype), normal(rng, width, dtype=dtype)
    centred = numpy_of(x) - numpy_of(x).mean(axis=-1, keepdims=True)
    (scaled,) = oracle.rms_norm(centred, numpy_of(w), 1e-5)
    want = scaled + numpy_of(b)
    bound = np.abs(scaled) * scaling_error(dtype) + ROUNDOFF[dtype] * np.abs(want)
    strides = {"w_stride": np.uint32(1), "b_stride": np.uint32(1)}
    return Launch(
        f"layer_norm{NAME[dtype]}",
        grid=(2, 1, 1),
        threadgroup=(row_threads(width, looped=False, reads=8), 1, 1),
        buffers={"x": x, "w": w, "b": b, "eps": np.float32(1e-5), "axis_size": np.uint32(width), **strides},
        results={"out": Result(dtype, want, None if dtype == F32 else bound)},
        constants={20: True},
    )


def rope_single(rng: np.random.Generator, dtype: mx.Dtype, *, heads: int, width: int, position: int) -> Launch:
    """One token's rotary embedding, the halves of a head its two coordinates."""
    x = normal(rng, heads, width, dtype=dtype)
    angle = position * 10000.0 ** (-np.arange(width // 2) / (width // 2))
    turned = (numpy_of(x)[:, : width // 2] + 1j * numpy_of(x)[:, width // 2 :]) * np.exp(1j * angle)
    scalars: dict[str, Buffer] = {"offset": np.int32(position), "scale": np.float32(1), "stride": np.int64(width)}
    return Launch(
        f"rope_single_{NAME[dtype]}",
        grid=(1, 1, 1),
        threadgroup=(width // 2, heads, 1),
        buffers={"in": x, "base": np.float32(math.log2(10000.0)), **scalars},
        results={"out": Result(dtype, np.concatenate([turned.real, turned.imag], axis=-1))},
        constants={1: True, 2: False, 3: False},
    )
