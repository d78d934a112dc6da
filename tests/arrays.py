"""Arrays for tests: random ones of a dtype, quantised ones, strided ones, and the way to float64 numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from deltamoe.ops import Quantized
from tests import oracle

F32, F16, BF16 = mx.float32, mx.float16, mx.bfloat16
FLOATS = (F32, F16, BF16)


def short(value: Any) -> str | None:
    """A test id: dtypes by their short name; the rest as pytest likes."""
    if isinstance(value, mx.Dtype):
        return str(value).removeprefix("mlx.core.").replace("bfloat", "bf").replace("float", "f").replace("uint", "u")
    if isinstance(value, tuple):
        return "x".join(short(part) or str(part) for part in value) or "scalar"
    return None


def normal(
    rng: np.random.Generator, *shape: int, dtype: mx.Dtype = F32, scale: float = 1.0, mean: float = 0.0
) -> mx.array:
    """Normally distributed numbers."""
    return mx.array((mean + scale * rng.standard_normal(shape)).astype(np.float32)).astype(dtype)


def uniform(rng: np.random.Generator, low: float, high: float, *shape: int, dtype: mx.Dtype = F32) -> mx.array:
    """Uniformly distributed numbers."""
    return mx.array(rng.uniform(low, high, shape).astype(np.float32)).astype(dtype)


def quantized(
    rng: np.random.Generator,
    *shape: int,
    bits: int = 4,
    group: int = 64,
    dtype: mx.Dtype = F32,
    mean: float = 0.0,
) -> Quantized:
    """A random matrix ``[..., N, K]`` of about unit gain, quantised in float32; scales and biases in ``dtype``."""
    dense = normal(rng, *shape, scale=shape[-1] ** -0.5, mean=mean)
    weight, scales, biases = mx.quantize(dense, group_size=group, bits=bits)
    return Quantized(weight, scales.astype(dtype), biases.astype(dtype))


def numpy_of(x: mx.array) -> np.ndarray:
    """Exactly the values of x, reals in float64."""
    if mx.issubdtype(x.dtype, mx.floating):
        return np.array(x.astype(mx.float32)).astype(np.float64)
    return np.array(x)


def map_arrays(change: Callable[[mx.array], Any], value: Any) -> Any:
    """``value`` with each array in it changed; tuples and dicts are walked."""
    if isinstance(value, mx.array):
        return change(value)
    if isinstance(value, Quantized):
        return Quantized(*(change(part) for part in value))
    if isinstance(value, tuple):
        return tuple(map_arrays(change, part) for part in value)
    if isinstance(value, dict):
        return {name: map_arrays(change, part) for name, part in value.items()}
    return value


def list_arrays(value: Any) -> list[mx.array]:
    """All arrays in ``value``, in order."""
    found: list[mx.array] = []
    map_arrays(found.append, value)
    return found


def to_oracle(value: Any) -> Any:
    """``value`` as an oracle takes it."""
    if isinstance(value, Quantized):
        return oracle.Quantized(*(numpy_of(part) for part in value))
    if isinstance(value, tuple):
        return tuple(to_oracle(part) for part in value)
    if isinstance(value, dict):
        return {name: to_oracle(part) for name, part in value.items()}
    return numpy_of(value) if isinstance(value, mx.array) else value


def transposed(x: mx.array) -> mx.array:
    """The same values, the first axis stored last."""
    order = [*range(1, x.ndim), 0]
    back = [x.ndim - 1, *range(x.ndim - 1)]
    return mx.contiguous(x.transpose(order)).transpose(back) if x.ndim > 1 else stepped(x)


def stepped(x: mx.array) -> mx.array:
    """The same values, every second element of a buffer whose other elements are poison."""
    return mx.contiguous(mx.stack([x, poisoned(x)], axis=-1).flatten(-2))[..., ::2] if x.ndim else x


def offset(x: mx.array) -> mx.array:
    """The same values inside a larger buffer of poison: rows apart, and not aligned to anything."""
    if x.ndim == 0 or x.shape[-1] == 0:
        return x
    edge = poisoned(x)[..., :1]
    return mx.contiguous(mx.concatenate([edge, x, edge, edge], axis=-1))[..., 1 : 1 + x.shape[-1]]


def reversed_rows(x: mx.array) -> mx.array:
    """The same values through a negative stride along the first axis."""
    return mx.contiguous(x[::-1])[::-1] if x.ndim else x


def poisoned(x: mx.array) -> mx.array:
    """As x, of values that no result may depend on."""
    if mx.issubdtype(x.dtype, mx.floating):
        return mx.full(x.shape, float("nan"), dtype=x.dtype)
    return mx.logical_not(x) if x.dtype == mx.bool_ else mx.full(x.shape, 127, dtype=x.dtype)


LAYOUTS = (transposed, stepped, offset, reversed_rows)
