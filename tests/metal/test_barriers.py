"""Each barrier of our shaders is needed, and the simulator says so where one is missing or too weak."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import deltamoe_sim as sim
from deltamoe import _ext, ops
from deltamoe_sim.mutate import Launch, mutate_barriers
from tests.arrays import F32
from tests.compiled import ROOT
from tests.metal.delta import SEQUENTIAL
from tests.metal.experts import uniform
from tests.metal.plans import Plan, as_sim, empty, to_numpy
from tests.ops import test_gated_delta_block
from tests.ops.case import Case

Planned = tuple[Plan, list[mx.array], list[mx.array]]
"""A plan, the op's inputs, its results."""


def planned(case: Case, chunk: int | None = None) -> Planned:
    """What Metal would run for a case."""
    results = getattr(ops, case.op)(**case.arguments, stream=mx.cpu)
    plan, inputs, outputs = _ext.metal_plan(results[0] if isinstance(results, tuple) else results, chunk=chunk)
    assert plan is not None
    return plan, inputs, outputs


def source_of(plan: Plan) -> str:
    """All functions of a plan in one file."""
    functions = {d["kernel"]: d["function"] for d in plan["dispatches"]}
    lines = [f'#include "{header}.h"' for header in sorted({d["source"] for d in plan["dispatches"]})]
    lines += [f'template [[host_name("{k}")]] [[kernel]] decltype({f}) {f};' for k, f in functions.items()]
    return "\n".join(lines) + "\n"


def launch_of(planned: Planned) -> Launch:
    """Runs the whole plan."""
    plan, inputs, results = planned
    mx.eval(inputs)
    given = {f"input {i}": to_numpy(array) for i, array in enumerate(inputs)}
    dispatches = as_sim(plan)

    def launch(library: sim.Library, seed: int) -> tuple[sim.Result, Mapping[str, np.ndarray]]:
        outputs = {f"output {i}": empty(array.shape, array.dtype) for i, array in enumerate(results)}
        libraries = {d.source: library for d in dispatches.dispatches}
        found = sim.run_plan(dispatches, libraries, given | outputs, outputs=set(outputs), seed=seed)
        counters = dataclasses.replace(
            found[0].counters,
            barriers=sum(r.counters.barriers for r in found),
            simd_ops=sum(r.counters.simd_ops for r in found),
        )
        reports = tuple(report for result in found for report in result.reports)
        return dataclasses.replace(found[0], reports=reports, counters=counters), outputs

    return launch


def moe(tokens: int) -> Case:
    """A small mixture of experts with a shared one; 9 tokens and more take the prefill kernels."""
    return uniform((tokens, 4, 2, 256, 256), F32)


def gdn(tokens: int) -> Case:
    """A small DeltaNet block, whose keys are too wide for gated_delta_prepare to stage them at once."""
    return test_gated_delta_block.case((1, tokens, 1, 1, 64, 32))


@pytest.mark.parametrize(
    ("case", "chunk", "headers", "barriers"),
    [
        pytest.param(lambda: moe(1), None, ["moe/decode"], 1, id="moe-decode"),
        pytest.param(lambda: moe(20), None, ["moe/combine", "moe/gemm", "moe/worklist"], 5, id="moe-prefill"),
        pytest.param(lambda: gdn(17), SEQUENTIAL, ["gdn/sequential"], 3, id="gdn-sequential"),
        pytest.param(lambda: gdn(66), 64, ["gdn/chunked"], 6, id="gdn-chunked"),
    ],
)
def test_every_barrier_is_needed_and_missed(
    case: Callable[[], Case], chunk: int | None, headers: list[str], barriers: int, tmp_path: Path
) -> None:
    launched = planned(case(), chunk)
    source = tmp_path / "all.metal"
    source.write_text(source_of(launched[0]))
    metal = ROOT / "metal"
    files = [metal / f"{header}.h" for header in headers]
    mutants = mutate_barriers(source, launch_of(launched), include=[metal], files=files, seeds=(0, 1))
    assert len({(m.file, m.line) for m in mutants}) == barriers
    # Only atomics meet at the work list's barriers, so their memory flag changes nothing that the simulator can see.
    passed = {(Path(m.file).stem, m.change, m.outcome) for m in mutants if m.outcome != "caught"}
    assert passed <= {("worklist", "mem_none", "harmless")}, "\n".join(map(str, mutants))
