"""The database: what is written comes back, and what befalls a file is survived or said in one line."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from deltamoe.errors import DeltamoeError
from deltamoe.track import store as module
from deltamoe.track.store import Measurement, Run, Store, canonical
from tests.track.made_up import run

SAMPLES = Measurement(
    name="decode at 0",
    side="patched",
    unit="tok/s",
    higher_is_better=True,
    settings={"model": "tiny", "batch": 1},
    samples=[1.5, 2.25, 0.1],
    offsets=[1.0, 2.0, 3.5],
    noisy=True,
    notes={"limit": 3.0},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "track.db"


def test_what_is_written_comes_back(path: Path) -> None:
    with Store.open(path) as store:
        first = store.add_run(run("aaaa", dirty=True, state="running", notes={"plan": {"rounds": 3}}))
        second = store.add_run(run("bbbb", machine="other"))
        written = store.add(first, SAMPLES)
        other = store.add(second, replace(SAMPLES, side="stock", higher_is_better=False, noisy=False))
    with Store.open(path) as store:
        assert store.runs() == [first, second]
        assert store.measurements() == [written, other]
        assert store.measurements(second) == [other]
        assert store.runs(machine="other") == [second]
        assert store.runs(revision="aa") == [first]
        assert store.runs(machine="m", revision="b") == []


def test_a_measurement_grows(path: Path) -> None:
    with Store.open(path) as store:
        first = store.add_run(run(state="running"))
        grown = replace(
            store.add(first, SAMPLES), samples=[1.0] * 4, offsets=[0.0] * 4, noisy=False, notes={"drift": "x"}
        )
        store.update(grown)
        assert store.measurements() == [grown]
        ended = store.finish(replace(first, notes={"clock": "y"}), "interrupted")
        assert store.runs() == [ended]
        assert ended.state == "interrupted"


def test_settings_are_equal_in_any_order() -> None:
    assert canonical({"a": 1, "b": [2]}) == canonical({"b": [2], "a": 1})
    assert SAMPLES.key == replace(SAMPLES, settings=dict(reversed(SAMPLES.settings.items()))).key


def test_a_state_that_is_none_is_refused(path: Path) -> None:
    with Store.open(path) as store, pytest.raises(sqlite3.IntegrityError):
        store.add_run(run(state="finished"))


def test_a_copy_is_whole_or_not_there(path: Path) -> None:
    with Store.open(path) as store:
        with pytest.raises(sqlite3.IntegrityError):
            store.copy(run(), [SAMPLES, SAMPLES])  # the same twice
        assert store.runs() == []
        store.copy(run(), [SAMPLES])
        assert len(store.measurements()) == 1


def test_two_processes_may_write(path: Path) -> None:
    with Store.open(path) as one, Store.open(path) as other:
        one.add_run(run("aaaa"))
        other.add_run(run("bbbb"))
        assert [each.revision for each in one.runs()] == ["aaaa", "bbbb"]


# ---- faults ----------------------------------------------------------------------------------------------------------
def test_a_locked_database_is_one_line(path: Path) -> None:
    with Store.open(path, busy_seconds=0.05) as store:
        first = store.add_run(run())
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with (
            pytest.raises(DeltamoeError, match=r"track\.db: database is locked: another process has held it"),
            Store.open(path, busy_seconds=0.05) as store,
        ):
            store.add(first, SAMPLES)


def test_a_database_that_is_locked_for_a_while_is_waited_for(path: Path) -> None:
    with Store.open(path):
        pass
    code = (
        "import sqlite3, sys, time; db = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "db.execute('BEGIN IMMEDIATE'); print('held', flush=True); time.sleep(0.3); db.execute('COMMIT')"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with Store.open(path) as store:
            store.add_run(run())
            assert len(store.runs()) == 1


def test_a_full_disk_is_one_line_and_loses_nothing(path: Path) -> None:
    """SQLite's own limit on pages stands in for the disk's end: the error is the same, SQLITE_FULL."""
    with Store.open(path) as store:
        written = store.add(store.add_run(run()), SAMPLES)

    def fill() -> None:
        with Store.open(path) as store:
            pages = store._db.execute("PRAGMA page_count").fetchone()[0]
            store._db.execute(f"PRAGMA max_page_count = {pages}")
            store.update(replace(written, samples=[0.0] * 10_000))

    with pytest.raises(DeltamoeError, match="the disk is full; free some room"):
        fill()
    with Store.open(path) as store:
        assert store.measurements() == [written]
        store.update(replace(written, samples=[0.0] * 10_000))  # there is room again


def test_a_process_that_is_killed_loses_nothing(path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from deltamoe.track.store import Store; "
        "from tests.track.made_up import recorded\n"
        "with Store.open(Path(sys.argv[1])) as store:\n"
        "    recorded(store, samples=5, state='running')\n"
        "    store._db.execute('BEGIN IMMEDIATE')\n"
        "    store._db.execute('DELETE FROM measurement')\n"  # in the middle of a transaction
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    with Store.open(path) as store:
        assert [each.state for each in store.runs()] == ["running"]
        assert [len(each.samples) for each in store.measurements()] == [5] * 4


@pytest.mark.parametrize(
    "content", [b"not a database, but a text of some length\n" * 50, b"SQLite format 3\0" + b"x" * 4096]
)
def test_a_file_that_is_no_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DeltamoeError, match=r"track\.db.*name another file with --db"), Store.open(path):
        pass
    assert path.read_bytes() == content


def test_one_that_is_not_there(path: Path) -> None:
    with pytest.raises(DeltamoeError, match=r"track\.db does not exist"), Store.open(path, create=False):
        pass
    assert not path.exists()


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir()
    with pytest.raises(DeltamoeError, match="cannot be opened"), Store.open(path):
        pass


def test_a_folder_that_cannot_be_made(path: Path) -> None:
    path.write_text("a file")
    with pytest.raises(DeltamoeError, match="cannot be made"), Store.open(path / "track.db"):
        pass


# ---- schemas ---------------------------------------------------------------------------------------------------------
NEXT = ("ALTER TABLE run ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'", "UPDATE run SET colour = 'blue'")


def test_an_older_schema_is_migrated_and_backed_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(path) as store:
        written = store.add(store.add_run(run()), SAMPLES)
    older = len(module.MIGRATIONS)
    monkeypatch.setattr(module, "MIGRATIONS", [*module.MIGRATIONS, NEXT])
    with Store.open(path) as store:
        assert store.schema == older + 1
        assert store.measurements() == [written]
        assert store._db.execute("SELECT colour FROM run").fetchone()[0] == "blue"
    monkeypatch.undo()
    with Store.open(path.with_name(f"track.db.schema-{older}.bak")) as backup:
        assert backup.schema == older
        assert backup.measurements() == [written]


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(path) as store:
        written = store.add_run(run())
    older = len(module.MIGRATIONS)
    monkeypatch.setattr(module, "MIGRATIONS", [*module.MIGRATIONS, (*NEXT, "SELECT no_such_column FROM run")])
    with pytest.raises(sqlite3.OperationalError), Store.open(path):
        pass
    monkeypatch.undo()
    with Store.open(path) as store:
        assert store.schema == older
        assert store.runs() == [written]


def test_a_new_database_needs_no_backup(path: Path) -> None:
    with Store.open(path):
        pass
    assert [each.name for each in path.parent.iterdir()] == ["track.db"]


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(DeltamoeError, match=r"schema 99 .* update deltamoe"), Store.open(path):
        pass
    assert path.read_bytes() == before


def test_label() -> None:
    assert Run("0123456789abcdef", True, "m").label == "0123456789+dirty"
    assert Run("v1.2", False, "m").label == "v1.2"
