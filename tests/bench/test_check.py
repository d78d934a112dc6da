"""Rows, the baseline and paired builds, on samples that are made up."""

from __future__ import annotations

import io
import json
import subprocess
import types
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from rich.console import Console

from bench import build as building
from bench import check, pair, planted
from bench.cases import OURS, Case, Work
from bench.check import Band
from bench.kernels import Row
from bench.rounds import Samples
from bench.table import kernel_table, seconds
from deltamoe import ops
from deltamoe.measure.limits import Probe

ROUNDS = 24
CASE = Case("qlinear", "35B-A3B", part="head")
READ = Probe("bandwidth", "read bandwidth", "B", lambda: 0.0)


def samples(median: float, spread: float = 0.01, seed: int = 0, rounds: int = ROUNDS) -> Samples:
    values = median * np.exp(spread * np.random.default_rng(seed).standard_normal(rounds))
    return Samples(values.tolist(), list(range(rounds)), [float(i) for i in range(rounds)])


def row(ours: Samples, stock: Samples | None = None, per_byte: float = 1e-10, case: Case = CASE) -> Row:
    arms = {OURS: ours, "limit": samples(per_byte, seed=7)} | ({} if stock is None else {"stock": stock})
    left_out = {} if stock else {"stock": "~9 s a call"}
    return Row(case, Work(1e7, 1.0, "float32"), "", READ, 1e7, arms, left_out, 2)


def test_a_row_has_time_rate_share_and_ratio() -> None:
    found = row(samples(2e-3), samples(1.0, seed=1))
    assert found.time.median == pytest.approx(2e-3, rel=0.02)
    assert found.rate is not None
    assert found.rate == (pytest.approx(5.0, rel=0.02), "GB/s")
    assert found.fraction is not None
    assert found.fraction.ratio == pytest.approx(0.5, rel=0.03)
    against = found.against("stock")
    assert against is not None
    assert against.ratio == pytest.approx(500, rel=0.03)
    assert found.winner("stock") == "faster"
    assert found.limit_seconds == pytest.approx(1e-3, rel=0.02)
    assert found.limit_text == "read bandwidth 10 GB/s"


def test_noisy_stands_in_place_of_a_false_winner() -> None:
    assert row(samples(1.0, 0.01), samples(1.001, 0.01, seed=1)).winner("stock") == "same"
    assert row(samples(1.0, 0.01), samples(1.1, 0.01, seed=1)).winner("stock") == "faster"
    assert row(samples(1.0, 0.6), samples(1.1, 0.6, seed=1)).winner("stock") == "noisy"
    assert row(samples(1.0, 0.6)).noisy


def test_the_table_says_what_was_left_out() -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(kernel_table([row(samples(2e-3)), row(samples(1.0, 0.6), samples(1.1, 0.6, seed=1))]))
    text = console.export_text()
    assert "left out: ~9 s a call" in text
    assert "noisy" in text
    assert seconds(row(samples(2e-3)).time.median) in text


@pytest.mark.parametrize(("value", "text"), [(2.5, "2.5 s"), (2.5e-3, "2.5 ms"), (4e-6, "4 us"), (3e-9, "3 ns")])
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


# ---- the baseline ----------------------------------------------------------------------------------------------------

BASELINE = {CASE.name: {"stock": [450.0, 550.0], "limit": [0.45, 0.55]}}


def findings(*rows: Row, baseline: dict[str, Any] = BASELINE) -> tuple[dict[str, check.Finding], int]:
    """Of one case that is measured as often as it is asked for."""
    asked = iter(rows)
    found = {finding.of: finding for finding in check.check(baseline, [CASE], lambda _: next(asked))}
    return found, len(list(asked))


def test_within_the_band_is_no_loss() -> None:
    found, left = findings(row(samples(2e-3), samples(1.0, seed=1)))
    assert left == 0
    assert set(found) == {"stock", "limit"}
    assert not any(finding.is_loss for finding in found.values())


def test_a_loss_is_measured_again_before_it_counts() -> None:
    slow = row(samples(2.5e-3), samples(1.0, seed=1))
    found, left = findings(slow, slow, slow)
    assert left == 0
    assert {of: finding.is_loss for of, finding in found.items()} == {"stock": True, "limit": True}
    found, left = findings(slow, row(samples(2e-3), samples(1.0, seed=1)), slow)
    assert left == 1
    assert not any(finding.is_loss for finding in found.values())
    assert [len(finding.now) for finding in found.values()] == [2, 2]


def test_an_uncertain_loss_is_none() -> None:
    uncertain = row(samples(3.6e-3, 0.9), samples(1.0, 0.9, seed=1))
    found, _ = findings(uncertain, uncertain, uncertain)
    for finding in found.values():
        assert finding.band is not None
        assert finding.now[0].ratio < 0.9 * finding.band.low
        assert not finding.is_loss


def test_a_little_below_the_band_is_within_the_margin() -> None:
    found, _ = findings(row(samples(2.27e-3), samples(1.0, seed=1)))  # 440
    assert not found["stock"].is_loss


def test_what_has_no_band_is_no_loss() -> None:
    found, _ = findings(row(samples(9.0), samples(1.0, seed=1)), baseline={})
    assert found["stock"].band is None
    assert not found["stock"].is_loss


def test_written_bands_hold_all_passes() -> None:
    rows = iter([row(samples(2e-3), samples(1.0, seed=1)), row(samples(2.5e-3), samples(1.0, seed=1))])
    written = check.write([CASE], lambda _: next(rows), passes=2)[CASE.name]
    assert written["stock"] == [pytest.approx(400, rel=0.03), pytest.approx(500, rel=0.03)]
    assert Band(*written["limit"]).low == pytest.approx(0.4, rel=0.03)


def run_main(monkeypatch: pytest.MonkeyPatch, path: Path, measured: Row, *arguments: str) -> int | None:
    monkeypatch.setattr("sys.argv", ["bench.check", "--baseline", str(path), *arguments])
    monkeypatch.setattr(check, "CASES", [CASE])
    monkeypatch.setattr(check, "measure", lambda *_: measured)
    try:
        check.main()
    except SystemExit as exit_:
        return exit_.code  # type: ignore[return-value]
    return None


def test_from_writing_to_a_loss(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "baseline.json"
    good, bad = row(samples(2e-3), samples(1.0, seed=1)), row(samples(3e-3), samples(1.0, seed=1))
    assert run_main(monkeypatch, path, good) is None
    assert "NOTHING WAS CHECKED" in capsys.readouterr().out
    assert run_main(monkeypatch, path, good, "--write", "--passes", "1") is None
    assert list(json.loads(path.read_text())) == [check.kind_of_machine()]
    assert not run_main(monkeypatch, path, good)
    assert "0 confirmed losses" in capsys.readouterr().out
    assert run_main(monkeypatch, path, bad) == 1
    assert "2 confirmed losses" in capsys.readouterr().out
    path.write_text("{")
    assert "is no JSON" in str(run_main(monkeypatch, path, good))


def test_the_baseline_of_this_repository_is_well_formed() -> None:
    names = {case.name for case in check.CASES}
    for kind, part in json.loads(check.BASELINE.read_text()).items():
        assert set(part["ratios"]) <= names, f"{kind}: a case that is no longer measured"
        for by in part["ratios"].values():
            assert all(0 < low <= high for low, high in by.values())


# ---- two builds ------------------------------------------------------------------------------------------------------


class Machine:
    """A clock, and builds whose calls take their time on it; every tenth call meets somebody else's work."""

    def __init__(self) -> None:
        self.now, self.rng = 0.0, np.random.default_rng(0)

    def build(self, cost: float) -> Any:
        def qlinear(x: mx.array, w: Any, stream: Any = None) -> mx.array:
            self.now += cost * (1 + 0.01 * self.rng.random()) + (self.rng.random() < 0.1) * 20 * cost
            return x

        return types.SimpleNamespace(qlinear=qlinear, set_threads=lambda n: None)


@pytest.mark.parametrize(("head", "is_loss"), [(1.05, True), (1.0, False), (1.01, False), (0.9, False)])
def test_paired_builds(head: float, is_loss: bool) -> None:
    machine = Machine()
    used = ops._ext
    base = machine.build(1e-3)
    verdict, spent = pair.compare(base, machine.build(head * 1e-3), CASE, clock=lambda: machine.now)
    assert verdict.is_loss == is_loss
    assert verdict.ratio == pytest.approx(1 / head, rel=2e-3)
    assert spent == pytest.approx(1e-3, rel=0.01)
    assert ops._ext is used


def test_fastest_of_each_few() -> None:
    assert pair.fastest([3.0, 1.0, 2.0, 9.0, 8.0, 7.0, 5.0], 3) == [1.0, 7.0]


def test_a_build_is_loaded_beside_the_one_in_use(tmp_path: Path) -> None:
    file = str(ops._ext.__file__)
    one, two = pair.load(file, tmp_path), pair.load(str(Path(file).parent), tmp_path)
    assert one is not two
    assert one.cpu_features()["available"] == ops._ext.cpu_features()["available"]
    with pytest.raises(SystemExit, match="holds no build"):
        pair.load(str(Path(__file__).parent), tmp_path)
    with pytest.raises(SystemExit, match="neither a build nor a revision"):
        pair.load("no-such-revision", tmp_path)


def test_a_revision_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repository"
    (repository / "csrc").mkdir(parents=True)
    for command in ("init", "-q"), ("add", "."), ("commit", "-qm", "old"):
        (repository / "csrc" / "a.cpp").write_text("old")
        author = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        subprocess.run(["git", *author, *command], cwd=repository, check=True)
    (repository / "csrc" / "a.cpp").write_text("new")
    monkeypatch.setattr(building, "ROOT", repository)
    building.export("HEAD", tmp_path / "base" / "tree")
    assert (tmp_path / "base" / "tree" / "csrc" / "a.cpp").read_text() == "old"


def test_a_tree_that_does_not_build_ends_with_the_compilers_words(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text("message(FATAL_ERROR no)")
    with pytest.raises(SystemExit, match="CMake Error"):
        building.build(tmp_path, tmp_path / "build")


def test_the_line_to_slow_down_is_there_once() -> None:
    assert (building.ROOT / planted.PLACE).read_text().count(planted.LINE) == 1
    assert planted.CASE in {case.name for case in pair.CASES}
