"""Kernels that we did not write: MLX's and mlx-lm's, unmodified, against float64 and against Apple's compiler."""

from __future__ import annotations

import linecache
from pathlib import Path

import numpy as np
import pytest

import deltamoe_sim as sim
from tests.arrays import FLOATS
from tests.sim.launches.launch import Case, Finding
from tests.sim.mlx_kernels import AIR_CASES, CASES, MLX_LM_CASES
from tests.sim.wheel import NoMetallib, metallib

COUNTED = ("barriers", "simd_ops", "matrix_ops")


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    """One after the other, so that the tests of one share its compiled source."""
    return request.param


@pytest.fixture(scope="module")
def library(case: Case) -> sim.Library:
    """Its source, compiled."""
    return case.launch.compile()


@pytest.fixture(scope="session")
def apple() -> Path:
    """Where mlx.metallib is."""
    try:
        return metallib()
    except NoMetallib as reason:
        pytest.skip(str(reason))


def check(case: Case, library: sim.Library) -> None:
    """It gives what float64 gives in two orders of simdgroups; what it is known for is reported, and nothing else."""
    for seed in (0, 1):
        result, outputs = case.launch.run(library, checked=True, seed=seed)
        case.launch.check(outputs)
        found = {Finding(r.kind, Path(r.file).name, linecache.getline(r.file, r.line).strip()) for r in result.reports}
        assert found == case.findings, "\n".join(map(str, result.reports))


def test_mlx(case: Case, library: sim.Library) -> None:
    """From the headers of the installed wheel."""
    check(case, library)


def test_is_to_the_bit_what_apple_compiled(case: Case, library: sim.Library, apple: Path) -> None:
    """Results and counts, in fast mode: our compiler on the header, Apple's on the same."""
    launch = case.launch
    ours, our_outputs = launch.run(library, checked=False)
    theirs, their_outputs = launch.run(sim.load_metallib(apple, names=[launch.kernel]), checked=False)
    for name, output in our_outputs.items():
        differing = np.count_nonzero(output.view(np.uint8) != their_outputs[name].view(np.uint8))
        assert differing == 0, f"{name}: {differing} bytes of {output.nbytes} differ"
    assert {n: getattr(ours.counters, n) for n in COUNTED} == {n: getattr(theirs.counters, n) for n in COUNTED}


@pytest.mark.parametrize("case", MLX_LM_CASES, ids=str)
def test_mlx_lm(case: Case) -> None:
    """As MLX generates them from what mlx-lm gives it."""
    check(case, case.launch.compile())


@pytest.mark.parametrize("case", AIR_CASES, ids=str)
def test_mlx_from_apples_compiler(case: Case, apple: Path) -> None:
    """What is in no header; AIR has no lines."""
    check(case, sim.load_metallib(apple, names=[case.launch.kernel]))


def test_the_tables_are_as_large_as_claimed() -> None:
    """At least 60 kernels with a dtype, all three dtypes among them."""
    pairs = {(case.launch.kernel, case.dtype) for case in (*CASES, *MLX_LM_CASES)}
    assert len(pairs) >= 60
    assert {dtype for _, dtype in pairs} == set(FLOATS)
