"""Planted faults: each shader's is reported in the right line, and its repaired twin is clean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import deltamoe_sim as sim
from tests.sim.planted import CASES, RUN_KINDS, Case, make_buffer

RUN_CASES = [case for case in CASES if case.runs]


@pytest.fixture(scope="module", params=RUN_CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    """One after the other, so that the tests of one share its compiled source."""
    chosen: Case = request.param
    return chosen


@pytest.fixture(scope="module")
def library(case: Case) -> sim.Library:
    return sim.compile(case.path, defines=case.defines)


def run(case: Case, library: sim.Library, *, checked: bool, seed: int = 0) -> Iterator[sim.Report]:
    """What is reported of the shader's kernels, one after the other."""
    for name in library.kernels:
        kernel = library.kernel(name, checked=checked)
        rng = np.random.default_rng(0)
        wanted = {p.name: case.buffers[p.name] for p in kernel.info.parameters if p.kind == "buffer"}
        result = kernel.run(
            grid=(case.grid, 1, 1),
            threadgroup=(case.threadgroup, 1, 1),
            grid_in_threads=case.grid_in_threads,
            buffers={name: make_buffer(spec, rng) for name, spec in wanted.items()},
            outputs=[name for name, spec in wanted.items() if spec.endswith("output")],
            threadgroup_memory=case.threadgroup_memory,
            seed=seed,
            timeout=case.timeout,
        )
        yield from result.reports


@pytest.mark.parametrize("seed", [0, 7])
def test_checked_run(case: Case, library: sim.Library, seed: int) -> None:
    if "deadlock" in case.expected:
        with pytest.raises(sim.KernelFault, match="did not end in time"):
            list(run(case, library, checked=True, seed=seed))
        return
    reports = list(run(case, library, checked=True, seed=seed))
    case.assert_found(case.due_at_run_time, {(r.kind, r.line) for r in reports}, "\n".join(map(str, reports)))
    assert {Path(r.file) for r in reports} <= {case.path}


def test_fast_run_survives(case: Case, library: sim.Library) -> None:
    """A fault may be reported, or end the run in an exception, but the interpreter goes on; the right ones just run."""
    try:
        kinds = {report.kind for report in run(case, library, checked=False)}
    except sim.KernelFault:
        assert case.expected
        return
    assert kinds <= case.expected.keys() | case.allowed.keys()


def test_every_kind_of_report_is_planted() -> None:
    planted = {kind for case in CASES for kind in case.due_at_run_time}
    assert planted == RUN_KINDS


def test_there_are_as_many_twins() -> None:
    faulty = [case for case in RUN_CASES if case.expected]
    assert len(faulty) >= 120
    assert len(RUN_CASES) >= 2 * len(faulty)
