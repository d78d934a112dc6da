"""Each barrier of our shaders is needed, and the simulator says so where one is missing or too weak."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import deltamoe_sim as sim
from deltamoe import _ext
from deltamoe_sim.mutate import Launch, mutate_barriers
from tests.compiled import ROOT
from tests.metal.plans import Plan, as_sim

HIDDEN, INTERMEDIATE, EXPERTS, K = 256, 256, 4, 2
FORMAT = (64, 4)


def planned(tokens: int) -> Plan:
    """Of a small mixture of experts with a shared one; 8 tokens and more take the prefill kernels."""
    plan = _ext.plan_moe_experts(
        tokens=tokens,
        hidden=HIDDEN,
        intermediate=INTERMEDIATE,
        experts=EXPERTS,
        k=K,
        dtype="float32",
        gate_up=FORMAT,
        down=FORMAT,
        shared_intermediate=INTERMEDIATE,
        shared=(FORMAT, FORMAT),
        shared_gate=FORMAT,
    )
    assert plan is not None
    return plan


def source_of(plan: Plan) -> str:
    """All functions of a plan in one file."""
    functions = {d["kernel"]: d["function"] for d in plan["dispatches"]}
    lines = [f'#include "{header}.h"' for header in sorted({d["source"] for d in plan["dispatches"]})]
    lines += [f'template [[host_name("{k}")]] [[kernel]] decltype({f}) {f};' for k, f in functions.items()]
    return "\n".join(lines) + "\n"


def inputs(tokens: int) -> list[np.ndarray]:
    """The op's, in its order."""
    rng = np.random.default_rng(tokens)
    group, bits = FORMAT

    def matrix(*shape: int) -> list[np.ndarray]:
        *rows, columns = shape
        codes = rng.integers(0, 2**32, (*rows, columns * bits // 32), np.uint32)
        scales = rng.normal(size=(*rows, columns // group)).astype(np.float32) / 64
        return [codes, scales, -8 * scales]

    gate_up, down = (INTERMEDIATE, HIDDEN), (HIDDEN, INTERMEDIATE)
    experts = [part for shape in (gate_up, gate_up, down) for part in matrix(EXPERTS, *shape)]
    shared = [part for shape in (gate_up, gate_up, down, (1, HIDDEN)) for part in matrix(*shape)]
    indices = np.stack([rng.permutation(EXPERTS)[:K] for _ in range(tokens)]).astype(np.uint32)
    x, scores = rng.normal(size=(tokens, HIDDEN)), rng.random((tokens, K))
    return [x.astype(np.float32), indices, scores.astype(np.float32), *experts, *shared]


def launch_of(plan: Plan, tokens: int) -> Launch:
    """Runs the whole plan."""
    given = inputs(tokens)
    dispatches = as_sim(plan)

    def launch(library: sim.Library, seed: int) -> tuple[sim.Result, Mapping[str, np.ndarray]]:
        arrays = {f"input {i}": array for i, array in enumerate(given)}
        arrays["output 0"] = y = np.empty((tokens, HIDDEN), np.float32)
        libraries = {d.source: library for d in dispatches.dispatches}
        results = sim.run_plan(dispatches, libraries, arrays, outputs={"output 0"}, seed=seed)
        counters = dataclasses.replace(
            results[0].counters,
            barriers=sum(r.counters.barriers for r in results),
            simd_ops=sum(r.counters.simd_ops for r in results),
        )
        reports = tuple(report for result in results for report in result.reports)
        return dataclasses.replace(results[0], reports=reports, counters=counters), {"y": y}

    return launch


@pytest.mark.parametrize(
    ("tokens", "headers", "barriers"),
    [
        pytest.param(1, ["decode"], 1, id="decode"),
        pytest.param(20, ["combine", "gemm", "worklist"], 5, id="prefill"),
    ],
)
def test_every_barrier_is_needed_and_missed(tokens: int, headers: list[str], barriers: int, tmp_path: Path) -> None:
    plan = planned(tokens)
    source = tmp_path / "moe.metal"
    source.write_text(source_of(plan))
    metal = ROOT / "metal"
    files = [metal / "moe" / f"{header}.h" for header in headers]
    mutants = mutate_barriers(source, launch_of(plan, tokens), include=[metal], files=files, seeds=(0, 1))
    assert len({(m.file, m.line) for m in mutants}) == barriers
    # Only atomics meet at the work list's barriers, so their memory flag changes nothing that the simulator can see.
    passed = {(Path(m.file).stem, m.change, m.outcome) for m in mutants if m.outcome != "caught"}
    assert passed <= {("worklist", "mem_none", "harmless")}, "\n".join(map(str, mutants))
