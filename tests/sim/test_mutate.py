"""Deleting or weakening any barrier of a shader is caught, or shown to be harmless."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import deltamoe_sim as sim
from deltamoe_sim.mutate import Launch, mutate_barriers
from tests.arrays import F32
from tests.oracle.maths import softmax
from tests.sim.launches.launch import INCLUDE, case
from tests.sim.launches.rows import softmax_row
from tests.tolerance import assert_close

SHADERS = Path(__file__).parent / "shaders"

TOY = """\
#include <metal_stdlib>
using namespace metal;
#include "exchange.h"
kernel void toy(device const float* x [[buffer(0)]], device float* y [[buffer(1)]], constant uint& shift [[buffer(2)]],
                uint i [[thread_index_in_threadgroup]]) {
  threadgroup float shared[64];
  shared[i] = x[i];
  // threadgroup_barrier(mem_flags::mem_threadgroup);
  EXCHANGE
  if (shift > 64) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
  y[i] = shared[(i + shift) % 64];
}
"""
"""Hands numbers on to threads of the other simdgroup; EXCHANGE is what stands between."""

TOY_X = np.arange(64, dtype=np.float32)


def toy(library: sim.Library, seed: int) -> tuple[sim.Result, dict[str, np.ndarray]]:
    """Runs it."""
    y = np.empty_like(TOY_X)
    result = library.kernel("toy").run(
        grid=(1, 1, 1),
        threadgroup=(64, 1, 1),
        buffers={"x": TOY_X, "y": y, "shift": np.uint32(40)},
        outputs=["y"],
        seed=seed,
    )
    return result, {"y": y}


@pytest.fixture
def write_toy(tmp_path: Path) -> Path:
    """Where it goes, next to its header."""
    (tmp_path / "exchange.h").write_text(
        "inline void exchange() {\n  threadgroup_barrier(mem_flags::mem_threadgroup);\n}\n"
    )
    return tmp_path / "toy.metal"


def outcomes(path: Path, files: list[Path] | None = None) -> list[tuple[int, str, str]]:
    """Line, change and outcome of each mutant."""
    return [(m.line, m.change, m.outcome) for m in mutate_barriers(path, toy, files=files)]


def test_a_needed_barrier_is_caught_and_one_in_dead_code_is_not_executed(write_toy: Path) -> None:
    """Line 8 is a comment."""
    write_toy.write_text(TOY.replace("EXCHANGE", "threadgroup_barrier(mem_flags::mem_threadgroup);"))
    mutants = mutate_barriers(write_toy, toy)
    assert [(m.line, m.change, m.outcome) for m in mutants] == [
        (9, "deleted", "caught"),
        (9, "simdgroup_barrier", "caught"),
        (9, "mem_none", "caught"),
        (11, "deleted", "not executed"),
        (12, "deleted", "not executed"),
    ]
    assert {report.kind for report in mutants[0].reports} == {"threadgroup-race", "uninitialised-read"}
    assert {(report.file, report.line) for report in mutants[0].reports} == {(str(write_toy), 7), (str(write_toy), 14)}


def test_the_second_of_two_barriers_is_harmless(write_toy: Path) -> None:
    """So is the first."""
    barrier = "threadgroup_barrier(mem_flags::mem_threadgroup);"
    write_toy.write_text(TOY.replace("EXCHANGE", f"{barrier} {barrier}"))
    found = outcomes(write_toy)
    assert Counter(outcome for line, _, outcome in found if line == 9) == {"harmless": 6}


def test_a_barrier_in_a_header(write_toy: Path) -> None:
    """Of the source's own folder."""
    write_toy.write_text(TOY.replace("EXCHANGE", "exchange();"))
    found = outcomes(write_toy, files=[write_toy.parent / "exchange.h"])
    assert found == [(2, "deleted", "caught"), (2, "simdgroup_barrier", "caught"), (2, "mem_none", "caught")]


def test_a_result_that_shows_it_without_a_report(write_toy: Path) -> None:
    """Atomics do not race, but what they see depends on the order. The first barrier is harmless: it orders nothing."""
    relaxed = "memory_order_relaxed"
    atomic = TOY.replace("float shared", "atomic_uint shared").replace(
        "shared[i] = x[i];",
        f"atomic_store_explicit(&shared[i], 0u, {relaxed}); threadgroup_barrier(mem_flags::mem_threadgroup); "
        f"atomic_store_explicit(&shared[i], uint(x[i]), {relaxed});",
    )
    atomic = atomic.replace("shared[(i + shift) % 64]", f"atomic_load_explicit(&shared[(i + shift) % 64], {relaxed})")
    write_toy.write_text(atomic.replace("EXCHANGE", "threadgroup_barrier(mem_flags::mem_threadgroup);"))
    found = outcomes(write_toy)
    assert {outcome for line, _, outcome in found if line == 7} == {"harmless"}
    assert (9, "deleted", "wrong result") in found


def test_a_shader_that_depends_on_the_order_is_refused(write_toy: Path) -> None:
    """Nothing can be compared with it."""
    write_toy.write_text(TOY.replace("EXCHANGE", ""))
    with pytest.raises(ValueError, match="order of simdgroups"):
        mutate_barriers(write_toy, toy)


def test_a_file_elsewhere_is_refused(write_toy: Path) -> None:
    """It would be mutated in vain."""
    write_toy.write_text(TOY.replace("EXCHANGE", "exchange();"))
    with pytest.raises(ValueError, match="neither next to the source nor"):
        mutate_barriers(write_toy, toy, files=[SHADERS / "softmax_rows.metal"])


def softmax_rows(library: sim.Library, seed: int) -> tuple[sim.Result, dict[str, np.ndarray]]:
    """Two rows of 300 for 96 threads each."""
    x = np.random.default_rng(0).standard_normal((2, 300)).astype(np.float32)
    y = np.empty_like(x)
    result = library.kernel("softmax_rows").run(
        grid=(2, 1, 1),
        threadgroup=(96, 1, 1),
        buffers={"x": x, "y": y, "width": np.uint32(300)},
        outputs=["y"],
        seed=seed,
    )
    return result, {"x": x, "y": y}


def tiled_matmul(library: sim.Library, seed: int) -> tuple[sim.Result, dict[str, np.ndarray]]:
    """40 by 24 by 33, so that every edge is ragged."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((40, 33)).astype(np.float32), rng.standard_normal((33, 24)).astype(np.float32)
    c = np.empty((40, 24), np.float32)
    result = library.kernel("tiled_matmul").run(
        grid=(1, 2, 1),
        threadgroup=(128, 1, 1),
        buffers={"a": a, "b": b, "c": c, "size": np.array([40, 24, 33, 0], np.uint32)},
        outputs=["c"],
        seed=seed,
    )
    return result, {"a": a, "b": b, "c": c}


def test_our_shaders_are_right() -> None:
    """Before anything is deleted."""
    result, found = softmax_rows(sim.compile(SHADERS / "softmax_rows.metal"), 1)
    assert not result.reports
    assert_close(mx.array(found["y"]), softmax(found["x"].astype(np.float64)))
    result, found = tiled_matmul(sim.compile(SHADERS / "tiled_matmul.metal"), 1)
    assert not result.reports
    assert_close(mx.array(found["c"]), found["a"].astype(np.float64) @ found["b"])


@pytest.mark.parametrize("launch", [softmax_rows, tiled_matmul], ids=lambda launch: launch.__name__)
def test_every_barrier_of_ours_is_needed_and_missed(launch: Launch) -> None:
    """Three in each, deleted, made a simdgroup's, and made one for no memory."""
    mutants = mutate_barriers(SHADERS / f"{launch.__name__}.metal", launch)
    assert len(mutants) == 9
    assert all(mutant.outcome == "caught" for mutant in mutants), "\n".join(map(str, mutants))


def test_every_barrier_of_mlx_softmax(tmp_path: Path) -> None:
    """In its header; those of the looped kernel, which is not instantiated, are not executed."""
    softmax_case = case(softmax_row, F32, width=200).launch
    path = tmp_path / "softmax.metal"
    path.write_text(softmax_case.source)
    header = INCLUDE / "mlx/backend/metal/kernels/softmax.h"
    mutants = mutate_barriers(
        path,
        lambda library, seed: softmax_case.run(library, checked=True, seed=seed),
        include=[INCLUDE],
        files=[header],
        seeds=(0, 1),
    )
    assert Counter(mutant.outcome for mutant in mutants) == {"caught": 15, "not executed": 2}
    assert {mutant.file for mutant in mutants} == {str(header)}
