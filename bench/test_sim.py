"""How fast the simulator runs MLX's grouped 4-bit product, after the run was held to float64."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.arrays import BF16
from tests.sim.launches.quantized import affine_gather_qmm_rhs


@pytest.mark.parametrize("mode", ["fast", "checked"])
def test_gather_qmm_rhs(benchmark: BenchmarkFixture, mode: str) -> None:
    benchmark.group = "affine_gather_qmm_rhs, bf16, 4 experts, 48 tokens, 512 x 1024"
    launch = affine_gather_qmm_rhs(
        np.random.default_rng(0), BF16, sizes=(16, 8, 8, 16), columns=512, depth=1024, group=64, bits=4
    )
    library = launch.compile()
    result, outputs = launch.run(library, checked=mode == "checked")
    launch.check(outputs)
    seconds: list[float] = []
    benchmark(lambda: seconds.append(launch.run(library, checked=mode == "checked")[0].seconds))
    benchmark.extra_info["GMAC/s"] = round(512 * result.counters.matrix_ops / np.median(seconds) / 1e9, 3)
    print(f"\n{mode}: {benchmark.extra_info['GMAC/s']} GMAC/s")
