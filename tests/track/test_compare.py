"""Comparing two runs of made-up samples."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from deltamoe.errors import DeltamoeError
from deltamoe.measure.statistics import Kind
from deltamoe.track import compare as module
from deltamoe.track.compare import Report, compare, find_runs, ratios, show
from deltamoe.track.record import PATCHED, STOCK
from deltamoe.track.store import Measurement, Store
from tests.track.made_up import CELLS, FACTS, VERSIONS, recorded, run

RATIO = f"{PATCHED} / {STOCK}"
NAMES = {cell.name for cell in CELLS}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "track.db") as opened:
        yield opened


def kinds(report: Report, side: str) -> set[Kind]:
    return {row.verdict.kind for row in report.rows if row.side == side}


def judged(report: Report) -> set[str]:
    return {row.side for row in report.rows if row.judged}


def text(report: Report) -> str:
    console = Console(file=io.StringIO(), width=140)
    show(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_equal_runs_raise_no_alarm(store: Store) -> None:
    base = recorded(store, "aaaa", seed=1)
    reports = [compare(store, [base], [recorded(store, "bbbb", seed=seed)], 0.03) for seed in range(2, 22)]
    assert not any(report.losses for report in reports)
    assert "No confirmed slowdown of more than 3%." in text(reports[0])


def test_a_planted_slowdown_of_five_percent_is_found(store: Store) -> None:
    found = 0
    for seed in range(20):
        base = recorded(store, "aaaa", seed=seed)
        head = recorded(store, "bbbb", seed=100 + seed, speed=0.95)
        report = compare(store, [base], [head], 0.03)
        assert {row.side for row in report.losses} <= {RATIO}
        found += bool(report.losses)
    assert found >= 19


def test_a_slower_machine_is_not_a_slower_revision(store: Store) -> None:
    base, head = recorded(store, "aaaa"), recorded(store, "bbbb", seed=1, machine_speed=0.6)
    report = compare(store, [base], [head], 0.03)
    assert kinds(report, PATCHED) == kinds(report, STOCK) == {Kind.SLOWER}
    assert kinds(report, RATIO) == {Kind.NO_EVIDENCE}
    assert judged(report) == {RATIO}
    assert not report.losses
    assert any("the machine changed between the runs" in warning for warning in report.warnings)


def test_a_slower_revision_is_seen_on_a_faster_machine(store: Store) -> None:
    base = recorded(store, "aaaa")
    head = recorded(store, "bbbb", seed=1, machine_speed=1.5, speed=0.9)
    report = compare(store, [base], [head], 0.03)
    assert {row.name for row in report.losses} == NAMES
    shown = text(report)
    assert "2 confirmed slowdowns of more than 3%" in shown
    assert "patched / stock, 1" in shown  # percent slower


def test_patched_is_judged_where_stock_did_not_run(store: Store) -> None:
    report = compare(
        store, [recorded(store, "aaaa", stock=False)], [recorded(store, "bbbb", stock=False, speed=0.9, seed=1)], 0.03
    )
    assert judged(report) == {PATCHED}
    assert {row.name for row in report.losses} == NAMES


def test_patched_is_judged_where_stock_is_another(store: Store) -> None:
    """A new mlx-lm may make stock faster: that must not pass for a loss of ours."""
    base = recorded(store, "aaaa")
    head = recorded(store, "bbbb", seed=1, versions={**VERSIONS, "mlx_lm": "9"})
    report = compare(store, [base], [head], 0.03)
    assert judged(report) == {PATCHED}
    assert any("mlx_lm" in warning for warning in report.warnings)


def test_the_threshold_counts(store: Store) -> None:
    base, head = recorded(store, "aaaa", scatter=0.005), recorded(store, "bbbb", seed=1, scatter=0.005, speed=0.95)
    assert compare(store, [base], [head], 0.03).losses
    assert not compare(store, [base], [head], 0.1).losses


def test_samples_of_several_runs_are_taken_together(store: Store) -> None:
    base = [recorded(store, "aaaa", seed=seed, samples=6, scatter=0.03) for seed in range(4)]
    head = [recorded(store, "bbbb", seed=9 + seed, samples=6, scatter=0.03, speed=0.95) for seed in range(4)]
    assert not compare(store, base[:1], head[:1], 0.03).losses
    report = compare(store, base, head, 0.03)
    assert {(row.base.n, row.head.n) for row in report.rows} == {(24, 24)}
    assert report.losses


def test_times_compare_the_other_way(store: Store) -> None:
    runs = []
    for revision, level in ("aaaa", 1.0), ("bbbb", 1.2):
        runs.append(store.add_run(run(revision)))
        samples = [level * (1 + 0.001 * i) for i in range(20)]
        store.add(runs[-1], Measurement("qlinear", "kernel", "s", False, {}, samples))
    [row] = compare(store, runs[:1], runs[1:], 0.03).losses
    assert row.verdict.ratio == pytest.approx(1 / 1.2)


def test_many_rows_do_not_make_a_false_alarm_likely(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """p-values are adjusted for the number of judged rows."""
    given = iter([0.009, 0.5, 0.5, 0.5] * 2)
    original = module.verdict
    monkeypatch.setattr(module, "verdict", lambda *a, **k: replace(original(*a, **k), p=next(given)))
    runs = [store.add_run(run(revision)) for revision in ("aaaa", "bbbb")]
    for i in range(4):
        for each, level in zip(runs, (1.0, 0.5), strict=True):
            store.add(each, Measurement(f"op {i}", "kernel", "tok/s", True, {}, [level, 1.01 * level, 1.02 * level]))
    report = compare(store, runs[:1], runs[1:], 0.03)
    assert min(row.verdict.p for row in report.rows) == pytest.approx(0.036)
    assert not report.losses


def test_ratios_pair_samples_of_a_round() -> None:
    entries = [
        Measurement("decode", PATCHED, "tok/s", True, {"batch": 1}, [10.0, 40.0, 90.0]),
        Measurement("decode", STOCK, "tok/s", True, {"batch": 1}, [1.0, 2.0]),  # the third round was interrupted
        Measurement("decode", PATCHED, "tok/s", True, {"batch": 2}, [10.0]),
        Measurement("op", "ours", "s", False, {}, [1.0]),
        Measurement("op", STOCK, "s", False, {}, [4.0]),
    ]
    assert [(entry.side, entry.unit, entry.samples) for entry in ratios(entries)] == [
        (RATIO, "x", [10.0, 20.0]),
        (f"ours / {STOCK}", "x", [4.0]),
    ]


def test_a_stock_of_fewer_rounds_stands_beside_what_ran_around_it() -> None:
    """The machine is half as fast in the second half of the run."""
    entries = [
        Measurement("op", "ours", "s", False, {}, [1.0, 1.0, 9.0, 1.0, 2.0, 2.0, 2.0, 2.0]),
        Measurement("op", STOCK, "s", False, {}, [4.0, 8.0]),
    ]
    [found] = ratios(entries)
    assert found.samples == [4.0, 4.0]


def test_an_unfinished_run_and_its_notes_are_told(store: Store) -> None:
    base = recorded(store, "aaaa", state="interrupted", notes={"drift": "it throttles", "clock": "it was set"})
    report = compare(store, [base], [recorded(store, "bbbb")], 0.03)
    shown = text(report)
    for words in "run 1 is not complete", "it throttles", "it was set":
        assert words in shown


def test_noise_is_shown(store: Store) -> None:
    base = recorded(store, "aaaa", scatter=0.3)
    report = compare(store, [base], [recorded(store, "bbbb", seed=1)], 0.03)
    assert {row.side for row in report.rows if row.noisy} >= {RATIO}
    assert "noisy" in text(report)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": "other"}, "no machine is the same"),
        ({"samples": 0}, "head has none at all"),
    ],
)
def test_what_cannot_be_compared(store: Store, change: dict[str, object], words: str) -> None:
    base, head = recorded(store, "aaaa"), recorded(store, "bbbb", **change)  # type: ignore[arg-type]
    with pytest.raises(DeltamoeError, match=words):
        compare(store, [base], [head], 0.03)


def test_settings_that_differ_are_named(store: Store) -> None:
    base, head = store.add_run(run("aaaa")), store.add_run(run("bbbb"))
    store.add(base, Measurement("decode", PATCHED, "tok/s", True, FACTS, [1.0]))
    store.add(head, Measurement("decode", PATCHED, "tok/s", True, {**FACTS, "threads": 8}, [1.0]))
    with pytest.raises(DeltamoeError, match="they differ in threads 2 and 8"):
        compare(store, [base], [head], 0.03)
    other = store.add_run(run("cccc"))
    store.add(other, Measurement("prefill", PATCHED, "tok/s", True, FACTS, [1.0]))
    with pytest.raises(DeltamoeError, match="no name of what was measured is the same"):
        compare(store, [base], [other], 0.03)


# ---- names of runs ---------------------------------------------------------------------------------------------------
def test_runs_by_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "git", lambda folder, *arguments: {"HEAD^{commit}": "bbb2"}.get(arguments[-1]))
    for revision, dirty in ("aaa1", False), ("aaa1", False), ("bbb2", True), ("bbb2", False), ("bbb3", False):
        store.add_run(run(revision, dirty=dirty))

    def found(name: str) -> list[int]:
        return [each.id for each in find_runs(store, name)]

    assert found("3") == [3]
    assert found("aaa1") == found("aa") == [1, 2]
    assert found("bbb2") == found("HEAD") == [4]
    assert found("bbb2+dirty") == found("HEAD+dirty") == [3]
    with pytest.raises(DeltamoeError, match="beginning of 2 revisions"):
        found("bbb")
    for name in "9", "cccc", "main", "", "--all":
        with pytest.raises(DeltamoeError, match="has no run"):
            found(name)
    with pytest.raises(DeltamoeError, match=r"of aaa1 there are: 1, 2"):
        found("aaa1+dirty")
