"""Plans: several dispatches, temporaries between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import deltamoe_sim as sim

SQUARES = """
#include <metal_stdlib>
using namespace metal;
kernel void squares(device const float* x [[buffer(0)]],
                    device float* y [[buffer(1)]],
                    constant uint& n [[buffer(2)]],
                    uint i [[thread_position_in_grid]]) {
  if (i < n) {
    y[i] = x[i] * x[i];
  }
}
"""
SUM = """
#include <metal_stdlib>
using namespace metal;
constant uint count [[function_constant(0)]];
kernel void sum(device const float* x [[buffer(0)]],
                device float* y [[buffer(1)]],
                threadgroup float* partial [[threadgroup(0)]],
                uint i [[thread_position_in_threadgroup]],
                uint lane [[thread_index_in_simdgroup]],
                uint simdgroup [[simdgroup_index_in_threadgroup]],
                uint simdgroups [[simdgroups_per_threadgroup]]) {
  float s = 0;
  for (uint k = i; k < count; k += 32 * simdgroups) {
    s += x[k];
  }
  s = simd_sum(s);
  if (lane == 0) {
    partial[simdgroup] = s;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (i == 0) {
    float total = 0;
    for (uint k = 0; k < simdgroups; k++) {
      total += partial[k];
    }
    y[0] = total;
  }
}
"""
N = 100


@pytest.fixture(scope="module")
def libraries() -> dict[str, sim.Library]:
    return {"squares.metal": sim.compile(SQUARES), "sum.metal": sim.compile(SUM)}


def plan(written: int = N) -> sim.Plan:
    """Sum of squares: of `written` squares in a temporary, N are summed."""
    return sim.Plan(
        dispatches=(
            sim.Dispatch(
                source="squares.metal",
                kernel="squares",
                grid=(128, 1, 1),
                grid_in_threads=True,
                threadgroup=(32, 1, 1),
                buffers={0: ("numbers", 8), 1: "squares", 2: np.uint32(written)},
            ),
            sim.Dispatch(
                source="sum.metal",
                kernel="sum",
                grid=(1, 1, 1),
                threadgroup=(64, 1, 1),
                buffers={0: "squares", 1: "total"},
                constants={"count": N},
                threadgroup_memory={0: 16},
            ),
        ),
        temporaries={"squares": 4 * N},
    )


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    return {"numbers": np.arange(-2, N, dtype=np.float32), "total": np.zeros(1, np.float32)}


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "fast"])
def test_dispatches_see_what_those_before_wrote(
    libraries: dict[str, sim.Library], arrays: dict[str, np.ndarray], checked: bool
) -> None:
    results = sim.run_plan(plan(), libraries, arrays, outputs={"total"}, checked=checked)
    assert arrays["total"][0] == sum(i * i for i in range(N))
    assert [r.reports for r in results] == [(), ()]
    assert [r.counters.barriers for r in results] == [0, 1]


def test_temporaries_that_no_dispatch_has_written(
    libraries: dict[str, sim.Library], arrays: dict[str, np.ndarray]
) -> None:
    first, second = sim.run_plan(plan(written=N - 1), libraries, arrays, outputs={"total"})
    assert first.reports == ()
    assert first.unwritten == {"y": 4}
    line = SUM.splitlines().index("    s += x[k];") + 1
    assert [(r.kind, r.line, r.count) for r in second.reports] == [("uninitialised-read", line, 1)]
    assert np.isnan(arrays["total"][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "gone.metal"}, "the plan wants gone.metal: given are squares.metal, sum.metal"),
        ({"kernel": "gone"}, "no kernel 'gone'"),
        ({"buffers": {0: "numbers", 1: "gone", 2: np.uint32(1)}}, "gone is neither an array nor a temporary"),
    ],
    ids=["source", "kernel", "buffer"],
)
def test_plans_that_name_what_is_not_there(
    libraries: dict[str, sim.Library], arrays: dict[str, np.ndarray], change: dict[str, object], message: str
) -> None:
    good = plan()
    bad = replace(good, dispatches=(replace(good.dispatches[0], **change), *good.dispatches[1:]))
    with pytest.raises(sim.LaunchError, match=message):
        sim.run_plan(bad, libraries, arrays)


def test_names_are_unambiguous(libraries: dict[str, sim.Library], arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(sim.LaunchError, match="squares: both an array and a temporary"):
        sim.run_plan(plan(), libraries, {**arrays, "squares": np.zeros(N, np.float32)})
    with pytest.raises(sim.LaunchError, match="sums: an output that is not among the arrays"):
        sim.run_plan(plan(), libraries, arrays, outputs={"sums"})
