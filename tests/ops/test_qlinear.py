"""qlinear against its oracle."""

from __future__ import annotations

from functools import cache

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltamoe import ops
from deltamoe.ops import Quantized
from tests.arrays import BF16, F16, F32, FLOATS, normal, quantized
from tests.backends import BACKENDS, Backend
from tests.ops.case import Case

SHAPES = [
    (1, 1, 32),
    (1, 3, 96),
    (1, 17, 160),
    (1, 250, 512),
    (2, 64, 1088),
    (3, 17, 32),
    (7, 250, 96),
    (8, 33, 160),
    (9, 1, 512),
    (17, 16, 1088),
    (64, 250, 512),
    (205, 31, 160),
]
"""tokens, N, K: nothing a multiple of what a kernel likes, and some that are."""


@cache
def case(
    shape: tuple[int, int, int], dtype: mx.Dtype, scales: mx.Dtype = F32, bits: int = 4, group: int = 32, seed: int = 0
) -> Case:
    tokens, n, k = shape
    rng = np.random.default_rng([seed, tokens, n, k, bits, group])
    # the error of one lone number means something only if its terms do not cancel
    mean = 0.5 if n == 1 else 0.0
    x = normal(rng, tokens, k, dtype=dtype, mean=mean)
    return Case("qlinear", x=x, w=quantized(rng, n, k, bits=bits, group=group, dtype=scales, mean=mean))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(backend: Backend, shape: tuple[int, int, int], dtype: mx.Dtype, bits: int) -> None:
    case(shape, dtype, dtype, bits).check(backend)


@pytest.mark.parametrize("tokens", [1, 5, 33])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("scales", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_formats(backend: Backend, dtype: mx.Dtype, scales: mx.Dtype, bits: int, group: int, tokens: int) -> None:
    case((tokens, 37, 384), dtype, scales, bits, group).check(backend)


@given(data=st.data())
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_any_shape(backend: Backend, data: st.DataObject) -> None:
    group = data.draw(st.sampled_from([32, 64, 128]), "group")
    shape = (
        data.draw(st.integers(0, 40), "tokens"),
        data.draw(st.integers(2, 140), "N"),
        group * data.draw(st.integers(1, 12), "K / group"),
    )
    dtypes = data.draw(st.sampled_from(FLOATS), "x"), data.draw(st.sampled_from(FLOATS), "scales")
    case.__wrapped__(shape, *dtypes, data.draw(st.sampled_from([4, 8]), "bits"), group, seed=1).check(backend)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("batch", [(), (0,), (0, 3), (1, 1), (2, 3, 1), (2, 1, 5)])
def test_batch_shapes(backend: Backend, batch: tuple[int, ...], dtype: mx.Dtype) -> None:
    rng = np.random.default_rng(2)
    (y,) = Case("qlinear", x=normal(rng, *batch, 64, dtype=dtype), w=quantized(rng, 24, 64)).check(backend)
    assert y.shape == (*batch, 24)


def test_many_rows(backend: Backend) -> None:
    case((33_000, 3, 32), F32).check(backend)


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_far_from_zero(backend: Backend, dtype: mx.Dtype) -> None:
    """Weights whose bias outweighs their scale, and activations of one sign: what a bias times a sum must survive."""
    rng = np.random.default_rng(3)
    x = normal(rng, 9, 512, dtype=dtype, mean=4.0)
    Case("qlinear", x=x, w=quantized(rng, 40, 512, mean=1.0)).check(backend)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("tokens", [1, 20])
def test_rows_of_very_different_size(backend: Backend, tokens: int, dtype: mx.Dtype) -> None:
    rng = np.random.default_rng(4)
    x = normal(rng, tokens, 256, scale=30.0) * mx.array(10.0 ** rng.uniform(-3, 1, (tokens, 256)).astype(np.float32))
    w = quantized(rng, 19, 256)
    Case("qlinear", x=x.astype(dtype), w=w).check(backend)


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("tokens", [1, 20])
def test_denormals(backend: Backend, tokens: int, dtype: mx.Dtype) -> None:
    """Results this small may be flushed to zero, but nothing worse."""
    rng = np.random.default_rng(5)
    x = normal(rng, tokens, 128, dtype=dtype, scale=2.0**-130)
    Case("qlinear", x=x, w=quantized(rng, 16, 128)).check(backend, tiny=2.0**-100)


def test_denormal_weights(backend: Backend) -> None:
    rng = np.random.default_rng(6)
    w = quantized(rng, 16, 128)
    small = Quantized(w.weight, w.scales * 2.0**-130, w.biases * 2.0**-130)
    Case("qlinear", x=normal(rng, 3, 128), w=small).check(backend, tiny=2.0**-100)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("tokens", [1, 12])
def test_nan_and_infinity_stay_in_their_row(backend: Backend, tokens: int, dtype: mx.Dtype) -> None:
    rng = np.random.default_rng(7)
    w = quantized(rng, 40, 128)
    x = normal(rng, tokens + 2, 128, dtype=dtype)
    clean = backend.run("qlinear", x=x, w=w)[0]
    bad = mx.array(x)
    bad[0, 5] = float("nan")
    bad[1, 77] = float("inf")
    (y,) = backend.run("qlinear", x=bad, w=w)
    assert mx.isnan(y[0]).all()
    assert not mx.isfinite(y[1]).any()
    assert mx.array_equal(y[2:], clean[2:])


@pytest.mark.parametrize("bits", [4, 8])
def test_extreme_codes(backend: Backend, bits: int) -> None:
    """All codes 0 and all codes at their largest are exact."""
    rng = np.random.default_rng(8)
    x = normal(rng, 6, 64)
    rows = np.repeat(np.array([0, 0xFFFFFFFF], np.uint32), 5)[:, None]
    weight = mx.array(np.broadcast_to(rows, (10, 64 * bits // 32)).copy())
    scales, biases = normal(rng, 10, 2), normal(rng, 10, 2)
    Case("qlinear", x=x, w=Quantized(weight, scales, biases)).check(backend)


def bad_calls() -> dict[str, tuple[mx.array, Quantized]]:
    rng = np.random.default_rng(9)
    x, w = normal(rng, 2, 128), quantized(rng, 8, 128)
    two_bits = mx.quantize(normal(rng, 8, 128), group_size=64, bits=2)
    return {
        "x without axes": (mx.array(1.0), w),
        "x of integers": (mx.zeros((2, 128), mx.int32), w),
        "x of another width": (x[:, :96], w),
        "stacked weights": (x, quantized(rng, 3, 8, 128)),
        "weights of one axis": (x, Quantized(*(part[0] for part in w))),
        "signed weights": (x, w._replace(weight=w.weight.astype(mx.int32))),
        "2 bits": (x, Quantized(*two_bits)),
        "group of 16": (x, Quantized(w.weight, *(mx.repeat(part, 4, axis=-1) for part in w[1:]))),
        "group of 256": (
            normal(rng, 2, 256),
            Quantized(quantized(rng, 8, 256).weight, normal(rng, 8, 1), normal(rng, 8, 1)),
        ),
        "integer scales": (x, w._replace(scales=w.scales.astype(mx.int32))),
        "scales and biases of two dtypes": (x, w._replace(scales=w.scales.astype(mx.float16))),
        "scales of fewer rows": (x, w._replace(scales=w.scales[:-1], biases=w.biases[:-1])),
        "biases of another shape": (x, w._replace(biases=w.biases[:, :1])),
    }


@pytest.mark.parametrize("bad", bad_calls())
def test_bad_input(bad: str) -> None:
    x, w = bad_calls()[bad]
    with pytest.raises(ValueError, match="qlinear"):
        ops.qlinear(x, w)
