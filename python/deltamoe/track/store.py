"""Where measurements are kept: one SQLite file, every sample of every measurement, each committed as it is taken."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs

from deltamoe.errors import DeltamoeError

__all__ = ["MIGRATIONS", "STATES", "Measurement", "Run", "Store", "canonical", "default_path"]

BUSY_SECONDS = 30.0
STATES = ("running", "done", "interrupted")

# What makes each version of the schema from the one before; ``PRAGMA user_version`` says how many were applied. Never
# edit an entry that was released: append one.
MIGRATIONS: list[tuple[str, ...]] = [
    (
        """
        CREATE TABLE run (
            id INTEGER PRIMARY KEY,
            started TEXT NOT NULL,        -- ISO 8601, UTC; a label, never used to measure
            revision TEXT NOT NULL,       -- git's full hash; outside a checkout v and deltamoe's version
            dirty INTEGER NOT NULL,       -- 1 where files differed from the revision
            machine TEXT NOT NULL,        -- fingerprint of machine_json
            machine_json TEXT NOT NULL,
            versions_json TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('running', 'done', 'interrupted')),
            notes_json TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE measurement (
            id INTEGER PRIMARY KEY,
            run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            side TEXT NOT NULL,
            unit TEXT NOT NULL,
            higher_is_better INTEGER NOT NULL,
            settings_json TEXT NOT NULL,  -- canonical: sorted keys, so that equal settings are equal text
            samples_json TEXT NOT NULL,   -- in the order in which they were taken
            offsets_json TEXT NOT NULL,   -- seconds from the run's first moment by a monotonic clock, one per sample
            noisy INTEGER NOT NULL,
            notes_json TEXT NOT NULL,
            UNIQUE (run_id, name, side, settings_json)
        ) STRICT
        """,
    ),
]


@dataclass(frozen=True)
class Run:
    """One recording.

    Attributes:
        id: 0 until the store has given it one.
        started: UTC in ISO 8601; a label for people, never used to measure.
        revision: git's full hash; outside a checkout ``v`` and deltamoe's version.
        dirty: whether files differed from the revision.
        machine: fingerprint: equal where ``machine_facts`` are equal.
        machine_facts: CPU, cores, memory, GPU, operating system.
        versions: of deltamoe, mlx, mlx-lm, Python; kernels in use and threads.
        state: one of :data:`STATES`.
        notes: whatever else is worth keeping, JSON; among it the plan that a resumed run completes.
    """

    revision: str
    dirty: bool
    machine: str
    machine_facts: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    state: str = "running"
    notes: dict[str, Any] = field(default_factory=dict)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    id: int = 0

    @property
    def label(self) -> str:
        """How a person names the run: its revision in short, with ``+dirty`` where files differed."""
        return self.revision[:10] + ("+dirty" if self.dirty else "")


@dataclass(frozen=True)
class Measurement:
    """All samples of one thing under one setting on one side.

    Attributes:
        name: what is measured, such as ``decode``, ``prefill`` or a benchmark's name.
        side: ``patched`` or ``stock``, or the arm of a kernel.
        unit: of a sample, such as ``tok/s`` or ``s``.
        settings: model and its hash, kind, prompt, depth, batch, dtype, threads, ...; measurements compare where
            these, the name, the side and the machine are equal.
        samples: in the order in which they were taken.
        offsets: seconds from the run's first moment by a monotonic clock, one per sample.
        noisy: whether the samples scatter too much to trust.
        notes: ``drift``, a text; ``limit``, the machine's: ``{"value": in the unit of the samples, "what": a text}``.
        id, run_id: 0 until the store has given them.
    """

    name: str
    side: str
    unit: str
    higher_is_better: bool
    settings: dict[str, Any]
    samples: list[float] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)
    noisy: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    run_id: int = 0
    id: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """Name, side and canonical settings: what must be equal, beside the machine, to compare two measurements."""
        return self.name, self.side, canonical(self.settings)


class Store:
    """The database. Every write is a transaction of its own: what was written survives whatever happens next."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Use :meth:`open`."""
        self.path = path
        self._db = connection

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, path: Path | None = None, *, create: bool = True, busy_seconds: float = BUSY_SECONDS
    ) -> Iterator[Store]:
        """Open or make the database, brought up to this version's schema.

        A database of an older schema is copied to ``NAME.schema-N.bak`` beside it before it is changed.

        Args:
            path: the file; None means :func:`default_path`.
            create: whether to make one that is not there.
            busy_seconds: how long to wait for another process that holds the database.

        Raises:
            DeltamoeError: here and in the block, for a file that is not there, locked, full, damaged, not a database,
                not writable, or of a newer schema.
        """
        path = default_path() if path is None else path
        if not (create or path.exists()):
            raise DeltamoeError(f"{path} does not exist: nothing is recorded there; see deltamoe track record --help")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeltamoeError(
                f"{path}: {error.strerror}: {path.parent} cannot be made; name another with --db"
            ) from error
        with (
            _explained(path),
            contextlib.closing(sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)) as connection,
        ):
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            store = cls(path, connection)
            store._migrate()
            connection.execute("PRAGMA journal_mode = WAL")
            yield store

    @property
    def schema(self) -> int:
        """The version of the schema that the file has."""
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        return version

    def add_run(self, run: Run) -> Run:
        """Write a run; returns it with its id."""
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO run (started, revision, dirty, machine, machine_json, versions_json, state, notes_json) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(run.started, run.revision, run.dirty, run.machine),
                    *(canonical(run.machine_facts), canonical(run.versions), run.state, canonical(run.notes)),
                ),
            )
        return replace(run, id=_id(cursor))

    def add(self, run: Run, measurement: Measurement) -> Measurement:
        """Write a measurement of a run; returns it with its ids."""
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO measurement (run_id, name, side, unit, higher_is_better, settings_json, samples_json, "
                "offsets_json, noisy, notes_json) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(run.id, measurement.name, measurement.side, measurement.unit, measurement.higher_is_better),
                    *(canonical(measurement.settings), json.dumps(measurement.samples)),
                    *(json.dumps(measurement.offsets), measurement.noisy, canonical(measurement.notes)),
                ),
            )
        return replace(measurement, id=_id(cursor), run_id=run.id)

    def update(self, measurement: Measurement) -> None:
        """Write anew what changes while a measurement is taken: samples, offsets, noisy, notes."""
        with self._transaction():
            self._db.execute(
                "UPDATE measurement SET samples_json = ?, offsets_json = ?, noisy = ?, notes_json = ? WHERE id = ?",
                (
                    *(json.dumps(measurement.samples), json.dumps(measurement.offsets), measurement.noisy),
                    *(canonical(measurement.notes), measurement.id),
                ),
            )

    def finish(self, run: Run, state: str = "done") -> Run:
        """Write a run's state and notes; returns it so."""
        run = replace(run, state=state)
        with self._transaction():
            self._db.execute(
                "UPDATE run SET state = ?, notes_json = ? WHERE id = ?", (run.state, canonical(run.notes), run.id)
            )
        return run

    def runs(self, *, machine: str | None = None, revision: str | None = None) -> list[Run]:
        """Runs in the order in which they were begun.

        Args:
            machine: only those of this fingerprint.
            revision: only those whose revision begins so.
        """
        rows = self._db.execute(
            "SELECT * FROM run WHERE (:machine IS NULL OR machine = :machine) "
            "AND (:revision IS NULL OR substr(revision, 1, length(:revision)) = :revision) ORDER BY id",
            {"machine": machine, "revision": revision},
        )
        return [
            Run(
                id=row["id"],
                started=row["started"],
                revision=row["revision"],
                dirty=bool(row["dirty"]),
                machine=row["machine"],
                machine_facts=json.loads(row["machine_json"]),
                versions=json.loads(row["versions_json"]),
                state=row["state"],
                notes=json.loads(row["notes_json"]),
            )
            for row in rows
        ]

    def measurements(self, run: Run | None = None) -> list[Measurement]:
        """Measurements of a run, or of all, in the order in which they were begun."""
        rows = self._db.execute(
            "SELECT * FROM measurement WHERE (:run IS NULL OR run_id = :run) ORDER BY run_id, id",
            {"run": None if run is None else run.id},
        )
        return [
            Measurement(
                id=row["id"],
                run_id=row["run_id"],
                name=row["name"],
                side=row["side"],
                unit=row["unit"],
                higher_is_better=bool(row["higher_is_better"]),
                settings=json.loads(row["settings_json"]),
                samples=json.loads(row["samples_json"]),
                offsets=json.loads(row["offsets_json"]),
                noisy=bool(row["noisy"]),
                notes=json.loads(row["notes_json"]),
            )
            for row in rows
        ]

    def copy(self, run: Run, measurements: Iterable[Measurement]) -> Run:
        """Write a whole run that comes from elsewhere, or nothing of it; returns it with its id."""
        with self._transaction():
            run = self.add_run(run)
            for measurement in measurements:
                self.add(run, measurement)
        return run

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._db.in_transaction:  # that of :meth:`copy`
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite has itself rolled back where the disk was full
                self._db.execute("ROLLBACK")
            raise

    def _migrate(self) -> None:
        if self.schema == len(MIGRATIONS):
            return
        with self._transaction():  # another process may be doing the same
            found = self.schema
            if found > len(MIGRATIONS):
                raise DeltamoeError(
                    f"{self.path} has schema {found} and this deltamoe knows {len(MIGRATIONS)}: it was written by a "
                    "newer one; update deltamoe, or name another file with --db"
                )
            if found > 0:
                self._back_up(self.path.with_name(f"{self.path.name}.schema-{found}.bak"))
            for statement in itertools.chain(*MIGRATIONS[found:]):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _back_up(self, path: Path) -> None:
        """A whole copy, in place only once it is whole."""
        unfinished = path.with_name(f"{path.name}.part")
        unfinished.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(self.path)) as source,  # reads beside the transaction of _migrate
            contextlib.closing(sqlite3.connect(unfinished)) as target,
        ):
            source.backup(target)
        unfinished.replace(path)


def default_path() -> Path:
    """The database where none is named: ``track.db`` in the user's data directory."""
    return platformdirs.user_data_path("deltamoe") / "track.db"


def canonical(values: Mapping[str, Any]) -> str:
    """JSON with sorted keys, so that equal values are equal text."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def _id(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None
    return cursor.lastrowid


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's and the file system's errors as one line that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        advice = {
            sqlite3.SQLITE_BUSY: "another process has held it for too long; wait until it is done and try again",
            sqlite3.SQLITE_FULL: "the disk is full; free some room and go on with --resume: what was measured is kept",
            sqlite3.SQLITE_READONLY: "it cannot be written; change its permissions, or name another file with --db",
            sqlite3.SQLITE_CANTOPEN: "it cannot be opened; name another file with --db",
            sqlite3.SQLITE_NOTADB: "it is not a database of deltamoe; name another file with --db",
            sqlite3.SQLITE_CORRUPT: "it is damaged; move it away, or name another file with --db",
            sqlite3.SQLITE_IOERR: "reading or writing failed; is the disk full or gone? What was written is kept",
        }.get(code)
        if advice is None:
            raise  # a fault of ours
        raise DeltamoeError(f"{path}: {error}: {advice}") from error
