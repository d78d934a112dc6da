"""The file format between a back end and another process."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np

from tests.arrays import BF16, FLOATS, normal, quantized
from tests.backends import flatten, read_arrays, write_arrays


def test_a_request_survives_its_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w = quantized(rng, 3, 64, dtype=BF16)
    arguments = {
        "x": normal(rng, 2, 0, 64),
        **{f"part{i}": normal(rng, 3, 5, dtype=dtype).T for i, dtype in enumerate(FLOATS)},
        "shared": (w, w),
        "mask": mx.array([True, False]),
        "none": None,
        "k": 7,
        "eps": 1e-6,
        "causal": True,
    }
    request = flatten(arguments)
    write_arrays(tmp_path / "request", "op", request)
    op, read = read_arrays(tmp_path / "request")
    assert op == "op"
    assert list(read) == list(request)
    assert {"shared.0.weight", "shared.1.biases", "k"} <= read.keys()
    assert "none" not in read
    for name, array in request.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert mx.array_equal(read[name], array)
