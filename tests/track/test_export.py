"""Out to github-action-benchmark, in from pytest-benchmark and other databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deltamoe.errors import DeltamoeError
from deltamoe.track.export import bring_in, github_entries
from deltamoe.track.store import Measurement, Store
from tests.track.made_up import recorded

SUITE = """
import pytest

@pytest.mark.parametrize("count", [10, 100])
def test_sum(benchmark, count):
    benchmark.group = "sums"
    benchmark.extra_info.update(name="sum", side="ours", settings={"count": count})
    benchmark.extra_info["limit"] = {"value": 1e-9, "what": "light"}
    benchmark.pedantic(sum, (range(count),), rounds=5)

def test_plain(benchmark):
    benchmark.pedantic(list, rounds=3)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "track.db") as opened:
        yield opened


def test_github_entries(store: Store) -> None:
    run = recorded(store, samples=5)
    store.add(run, Measurement("op", "kernel", "s", False, {}, [1.0, 2.0]))  # less is better: left out
    store.add(run, Measurement("empty", "kernel", "x", True, {}))
    entries = github_entries(store.measurements(run))
    assert [entry["name"] for entry in entries] == [
        "tiny, prefill of 128, patched",
        "tiny, prefill of 128, stock",
        "tiny, decode at 64, batch 2, patched",
        "tiny, decode at 64, batch 2, stock",
        "tiny, prefill of 128, patched / stock",
        "tiny, decode at 64, batch 2, patched / stock",
    ]
    assert [entry["unit"] for entry in entries] == ["tok/s"] * 4 + ["x"] * 2
    for entry in entries:
        assert set(entry) == {"name", "unit", "value", "range", "extra"}
        assert isinstance(entry["value"], float)
        low, high = (float(part) for part in entry["range"].split(" to "))
        assert low <= entry["value"] * 1.001
        assert entry["value"] <= high * 1.001
    assert "threads: 2" in entries[0]["extra"]
    json.dumps(entries)


def benchmark_json(tmp_path: Path, *options: str) -> Path:
    """What pytest-benchmark itself writes."""
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_suite.py"]
    # a worker of pytest-xdist says so to its children, where pytest-benchmark then measures nothing
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    return tmp_path / "bench.json"


def test_pytest_benchmark(store: Store, tmp_path: Path) -> None:
    [run] = bring_in(store, benchmark_json(tmp_path, "--benchmark-json=bench.json"))
    assert (run.state, run.id) == ("done", 1)
    assert run.machine_facts["system"]
    first, second, plain = store.measurements(run)
    assert (first.name, first.side, first.unit, first.higher_is_better) == ("sum", "ours", "s", False)
    assert first.settings == {"count": 10}
    assert first.notes == {"limit": {"value": 1e-9, "what": "light"}}
    assert len(first.samples) == len(second.samples) == 5
    assert all(0 < sample < 1 for sample in first.samples)
    assert (plain.name, plain.side, plain.settings) == ("test_plain", "kernel", {"group": None})
    assert len(plain.samples) == 3


def test_machine_and_versions_of_our_own_suite(store: Store, tmp_path: Path) -> None:
    file = benchmark_json(tmp_path, "--benchmark-json=bench.json")
    report: dict[str, Any] = json.loads(file.read_text())
    report["machine_info"]["deltamoe"] = {"machine": {"cpu": "c"}, "versions": {"mlx": "1"}}
    report["commit_info"] = {"id": "abcd", "dirty": True}
    file.write_text(json.dumps(report))
    [run] = bring_in(store, file)
    assert (run.machine_facts, run.versions) == ({"cpu": "c"}, {"mlx": "1"})
    assert (run.revision, run.dirty) == ("abcd", True)


def test_a_report_without_samples(store: Store, tmp_path: Path) -> None:
    file = benchmark_json(tmp_path, "--benchmark-json=bench.json")
    report: dict[str, Any] = json.loads(file.read_text())
    for benchmark in report["benchmarks"]:
        del benchmark["stats"]["data"]
    file.write_text(json.dumps(report))
    with pytest.raises(DeltamoeError, match=r"has no samples.*--benchmark-json"):
        bring_in(store, file)
    assert store.runs() == []


@pytest.mark.parametrize(
    "content", ["", "no json", "[]", "{}", '{"benchmarks": 3, "machine_info": {}, "datetime": ""}', "\ufffd\x00"]
)
def test_a_file_that_is_neither(store: Store, tmp_path: Path, content: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(DeltamoeError, match=r"other\.json cannot be read .*expected the file of pytest"):
        bring_in(store, file)


def test_another_database(store: Store, tmp_path: Path) -> None:
    with Store.open(tmp_path / "other.db") as other:
        originals = [recorded(other, "aaaa", samples=3), recorded(other, "bbbb", samples=3)]
        expected = [entry.samples for entry in other.measurements()]
    recorded(store, "cccc", samples=2)
    found = bring_in(store, tmp_path / "other.db")
    assert [run.revision for run in found] == [run.revision for run in originals]
    assert [run.id for run in store.runs()] == [1, 2, 3]
    assert [entry.samples for run in found for entry in store.measurements(run)] == expected
    assert bring_in(store, tmp_path / "other.db") == []  # nothing twice
    assert len(store.runs()) == 3
