"""``deltamoe track``: its commands from end to end, with a tiny model or with made-up samples."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deltamoe import cli
from deltamoe.synthetic import write_model
from deltamoe.track import bisect as bisecting
from deltamoe.track import cli as track
from deltamoe.track import runner
from deltamoe.track.record import PATCHED, STOCK, Cell
from deltamoe.track.store import Store
from tests.track.made_up import recorded

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run ``deltamoe track ARGUMENTS`` on a database of its own: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deltamoe", "track", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        code = stop.value.code or 0
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "track.db"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny", "tiny", dtype="float32")


CELLS = ["--prefill", "8", "--decode-depth", "0", "--tokens", "2", "--rounds", "2"]
SMALL = [*CELLS, "--stock"]


def test_record_a_model(run: Run, db: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SAMPLE_SECONDS", 0.0)
    figures = tmp_path / "figures.json"
    code, out, err = run("record", "--model", str(tiny), *CELLS, "--db", str(db), "--json", str(figures))
    assert code == 0, err
    rows = [line.split() for line in out.splitlines() if " x " in line or "tok/s" in line]
    assert [row[:4] for row in rows[::3]] == [["prefill", "of", "8", "patched"], ["decode", "at", "0", "patched"]]
    assert [row[:2] for row in rows[1::3]] == [["/", "stock"]] * 2  # the ratio stands below its side
    assert [row[0] for row in rows[2::3]] == ["stock"] * 2
    assert "[8/8]" in err
    with Store.open(db) as store:
        [found] = store.runs()
        entries = store.measurements(found)
    assert found.state == "done"
    assert {(entry.name, entry.side, len(entry.samples)) for entry in entries} == {
        (name, side, 2) for name in ("prefill of 8", "decode at 0") for side in (PATCHED, STOCK)
    }
    assert {entry.settings["model"] for entry in entries} == {"tiny"}
    assert len(json.loads(figures.read_text())) == 6

    code, out, _ = run("runs", "--db", str(db))
    assert code == 0
    assert found.label in out
    code, out, _ = run("compare", "1", "1", "--db", str(db))
    assert code == 0
    assert "No confirmed slowdown" in out


def test_record_without_stock(run: Run, db: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SAMPLE_SECONDS", 0.0)
    assert run("record", "--model", str(tiny), *CELLS, "--no-stock", "--db", str(db))[0] == 0
    with Store.open(db) as store:
        assert {entry.side for entry in store.measurements()} == {PATCHED}


@pytest.mark.parametrize(
    ("options", "rate", "sides"),
    [
        ([], 0.2, {PATCHED, STOCK}),
        ([], 0.09, {PATCHED}),
        (["--stock"], 0.09, {PATCHED, STOCK}),
        (["--no-stock"], 0.2, {PATCHED}),
    ],
)
def test_a_stock_that_takes_hours_is_left_out_unless_it_is_asked_for(
    run: Run, db: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], rate: float, sides: set[str]
) -> None:
    """A round is 8 tokens of prefill and 3 of decoding: 11 tokens at 0.09 a second are 122 s."""
    monkeypatch.setattr(runner.ModelRunner, "measure", lambda self, cell, side: rate if side == STOCK else 50.0)
    code, _, err = run("record", "--model", str(tiny), *CELLS, *options, "--db", str(db))
    assert code == 0, err
    with Store.open(db) as store:
        assert {entry.side for entry in store.measurements()} == sides
    told = "stock is left out: a token takes it 11 s, a round of all figures about 2 min 2 s; --stock measures it"
    assert (told in err) == (not options and STOCK not in sides)


def test_an_interruption_keeps_what_was_taken_and_says_how_to_go_on(
    run: Run, db: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def measure(self: object, cell: Cell, side: str) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(runner.ModelRunner, "measure", measure)
    command = ["record", "--model", str(tiny), *SMALL, "--db", str(db)]
    code, _, err = run(*command)
    assert code == 1
    assert "run 1 has 3 of 8 samples; go on with the same command and --resume" in err
    code, _, err = run(*command, "--rounds", "3", "--resume")
    assert code == 1
    assert "there is no interrupted run" in err
    code, _, err = run(*command, "--resume")
    assert code == 0, err
    with Store.open(db) as store:
        assert [found.state for found in store.runs()] == ["done"]
        assert [len(entry.samples) for entry in store.measurements()] == [2] * 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prefill", "many"], "--prefill many: numbers with commas between them are wanted"),
        (["--prefill", "0"], "--prefill has 0; it must be 1 or more"),
        (["--decode-depth", "-1"], "--decode-depth has -1"),
        (["--batch", "0"], "--batch has 0"),
        (["--prefill", "", "--decode-depth", ""], "nothing to measure"),
        (["--batch", ""], "nothing to measure"),
        (["--json", "/no/such/folder/x.json"], "is not a directory"),
        (["--model", "./nowhere"], "./nowhere does not exist"),
        (["--db", "/dev/null/track.db"], "cannot be made"),
    ],
)
def test_what_does_not_fit_is_one_line(run: Run, db: Path, tiny: Path, arguments: list[str], words: str) -> None:
    code, _, err = run("record", "--model", str(tiny), "--db", str(db), *arguments)
    assert code == 1
    assert words in err
    assert err.count("\n") == 1


def test_compare_ends_with_1_at_a_confirmed_slowdown(run: Run, db: Path) -> None:
    with Store.open(db) as store:
        recorded(store, "aaaa"), recorded(store, "bbbb", speed=0.9, seed=1)
    code, out, _ = run("compare", "aaaa", "bbbb", "--db", str(db))
    assert code == 1
    assert "confirmed slowdowns of more than 3%" in out
    assert run("compare", "aaaa", "bbbb", "--db", str(db), "--no-fail")[0] == 0
    assert run("compare", "aaaa", "bbbb", "--db", str(db), "--threshold", "15")[0] == 0
    assert run("compare", "bbbb", "aaaa", "--db", str(db))[0] == 0


@pytest.mark.parametrize("command", [["runs"], ["compare", "1", "2"]])
def test_nothing_is_made_by_looking(run: Run, db: Path, command: list[str]) -> None:
    code, _, err = run(*command, "--db", str(db))
    assert (code, db.exists()) == (1, False)
    assert "does not exist" in err
    assert err.count("\n") == 1


def test_runs_tells_who_was_killed(run: Run, db: Path) -> None:
    with Store.open(db) as store:
        recorded(store, "aaaa", state="running", notes={"process": {"pid": 0, "created": 0.0}})
    assert "interrupted" in run("runs", "--db", str(db))[1]


def test_import(run: Run, db: Path, tmp_path: Path) -> None:
    with Store.open(tmp_path / "other.db") as other:
        recorded(other, "abcd")
    code, out, _ = run("import", str(tmp_path / "other.db"), "--db", str(db))
    assert (code, out) == (0, "run 1: abcd, 4 figures\n")
    code, out, _ = run("import", str(tmp_path / "other.db"), "--db", str(db))
    assert code == 0
    assert "every run of it is there already" in out
    code, _, err = run("import", str(tmp_path / "nowhere.json"), "--db", str(db))
    assert code == 1
    assert "No such file" in err


def test_bisect_names_the_revision(run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deltamoe.measure import machine
    from deltamoe.track.compare import compare

    with Store.open(tmp_path / "x.db") as store:
        report = compare(store, [recorded(store, "a")], [recorded(store, "b", speed=0.9, seed=1)], 0.03)
    head = machine.git(machine.PACKAGE, "rev-parse", "HEAD")
    if head is None:
        pytest.skip("the package is not in a checkout")
    given: dict[str, object] = {}

    def bisect(good: str, bad: str, **options: object) -> bisecting.Outcome:
        given.update(options, good=good, bad=bad)
        return bisecting.Outcome([head], report.losses[0], "")

    monkeypatch.setattr(bisecting, "bisect", bisect)
    code, out, err = run("bisect", "old", "new", "--model", str(tiny), "--dir", str(tmp_path / "d"))
    assert code == 0, err
    assert "slower since" in out
    assert head[:7] in out
    assert (given["good"], given["bad"], given["threshold"]) == ("old", "new", 0.03)
    assert given["options"] == [
        *["--model", str(tiny.resolve()), "--prefill", "128", "--decode-depth", "0", "--batch", "1"],
        *["--tokens", "32", "--rounds", "20", "--stock"],
    ]


def test_what_is_missing_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "find_spec", lambda name: None if name == "scipy" else object())
    code, _, err = run("runs")
    assert code == 1
    assert err == "deltamoe: track needs scipy; install it with pip install 'deltamoe[track]'\n"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (7325, "2 h 2 min")]
)
def test_durations(seconds: float, expected: str) -> None:
    assert track._duration(seconds) == expected
