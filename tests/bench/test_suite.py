"""The suite from end to end, as ``make bench`` runs it, on one quick case."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.build import ROOT
from deltamoe.track.export import bring_in
from deltamoe.track.store import Store

PROGRAM = """\
import pytest, sys
class Stop:
    def pytest_runtest_logfinish(self):
        raise KeyboardInterrupt
sys.exit(pytest.main(sys.argv[2:], plugins=[Stop()] if sys.argv[1] == "stop" else []))
"""
OPTIONS = ["-q", "-p", "no:cacheprovider", "bench", "--benchmark-only", "--seconds", "0.1"]
CASE = "rms_norm 35B-A3B f32, decode"


def bench(tmp_path: Path, how: str) -> subprocess.CompletedProcess[str]:
    files = ["--record", "--db", str(tmp_path / "track.db"), "--benchmark-json", str(tmp_path / "bench.json")]
    command = [sys.executable, "-c", PROGRAM, how, *OPTIONS, "-k", "rms_norm and f32 and decode", *files]
    # pytest-benchmark does nothing where it sees that this process is one of several workers
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)


def test_one_case_in_the_table_in_the_database_and_in_the_json(tmp_path: Path) -> None:
    done = bench(tmp_path, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    for text in CASE, "x stock mlx-lm", "read bandwidth", "revision ", "mlx_lm ":
        assert text in done.stdout
    with Store.open(tmp_path / "track.db") as store:
        [run] = store.runs()
        kept = store.measurements(run)
        [brought_in] = bring_in(store, tmp_path / "bench.json")
        imported = store.measurements(brought_in)
    assert run.state == "done"
    assert {(each.name, each.side) for each in kept} == {(CASE, "deltamoe"), (CASE, "stock")}
    assert [each.key for each in imported] == [each.key for each in kept]
    for one, other in zip(kept, imported, strict=True):
        assert one.samples == pytest.approx(other.samples)  # there they went over a clock
    assert json.loads((tmp_path / "bench.json").read_text())["machine_info"]["deltamoe"]["machine"] == run.machine_facts


def test_an_interrupted_run_keeps_what_was_measured_and_says_so(tmp_path: Path) -> None:
    done = bench(tmp_path, "stop")
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout + done.stderr
    with Store.open(tmp_path / "track.db") as store:
        assert [run.state for run in store.runs()] == ["interrupted"]
        assert {each.side for each in store.measurements()} == {"deltamoe", "stock"}
