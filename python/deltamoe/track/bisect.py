"""Finds the revision that made a model slower: ``git bisect run``, in a work tree of its own, by measuring."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deltamoe.errors import DeltamoeError
from deltamoe.measure.machine import PACKAGE
from deltamoe.track.compare import Row, compare
from deltamoe.track.store import Run, Store

__all__ = ["Bench", "Outcome", "bisect"]

# What a step ends with, and what git bisect run makes of it. Python itself ends with 1 or 2 where it fails, which git
# would take for a bad revision: only these three are passed on, any other status ends the search.
GOOD, BAD, SKIP = 100, 101, 102
TRANSLATE = f'"$@"; case $? in {GOOD}) exit 0;; {BAD}) exit 1;; {SKIP}) exit 125;; *) exit 255;; esac'
_STEP = "deltamoe.track.bisect"  # run as a program
FOUND, ONLY_SKIPPED_LEFT = 0, 2  # statuses of git bisect run
ATTEMPTS = 3  # recordings of one revision at most, where the first ones are too noisy to tell
LOG_LINES = 15

Say = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """How a revision is built and measured.

    Attributes:
        worktree: of the repository, for the revisions that are tried.
        venv: shared by all of them, so that only what differs is built again.
        db: keeps every run.
        options: of ``deltamoe track record``, ``--model`` among them.
        threshold: the relative slowdown that is looked for.
    """

    worktree: str
    venv: str
    db: str
    options: list[str]
    threshold: float

    def measure(self) -> Run:
        """Build and measure what is checked out, with that revision's own code.

        Raises:
            DeltamoeError: it does not build, has no ``deltamoe track``, or fails.
        """
        self._run(["make", "build", f"VENV={self.venv}"], "does not build")
        # A file of its own: this revision may know an older schema than ours.
        own = Path(self.db).with_suffix(".revision.db")
        for file in own.parent.glob(f"{own.name}*"):
            file.unlink()
        program = str(Path(self.venv) / "bin" / "deltamoe")
        self._run([program, "track", "record", "--db", str(own), *self.options], "cannot be measured")
        with Store.open(own) as source, Store.open(Path(self.db)) as store:
            run = source.runs()[-1]
            return store.copy(run, source.measurements(run))

    def _run(self, command: list[str], complaint: str) -> None:
        # What points Python or git at another tree would have that one measured.
        environment = {
            name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("GIT_")
        }
        try:
            done = subprocess.run(
                command, cwd=self.worktree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        except OSError as error:
            raise DeltamoeError(f"the revision {complaint}: {error}") from error
        if done.returncode:
            tail = "\n".join(done.stdout.splitlines()[-LOG_LINES:])
            raise DeltamoeError(f"the revision {complaint}: {' '.join(command)} ended with {done.returncode}:\n{tail}")


@dataclass(frozen=True)
class Outcome:
    """What was found.

    Attributes:
        culprits: the first slow revision; several where those between could not be measured.
        row: what was judged: good against bad.
        log: git's.
    """

    culprits: list[str]
    row: Row
    log: str


def bisect(
    good: str, bad: str, *, repository: Path, folder: Path, options: list[str], threshold: float, say: Say
) -> Outcome:
    """Find the first revision after good that is as slow as bad.

    Good and bad are measured first, again while a step could not tell them apart; then each revision that git asks for
    counts as bad where its speed is nearer to bad's than to good's, by the measurement that lost the most.

    Args:
        repository: the checkout; it is left as it is.
        folder: for the work tree, the environment and the database, which stay there.
        options: of ``deltamoe track record``.
        threshold: the relative slowdown that is looked for.
        say: called with what happens.

    Raises:
        DeltamoeError: revisions that do not exist or do not follow one another, cannot be measured, or do not differ.
    """
    first, last = (_commit(repository, name) for name in (good, bad))
    if _git(repository, "merge-base", "--is-ancestor", first, last, check=False).returncode:
        raise DeltamoeError(f"{good} is no ancestor of {bad}; name the older, faster revision first")
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        worktree=str(folder / "worktree"),
        venv=str(folder / "venv"),
        db=str(folder / "track.db"),
        options=options,
        threshold=threshold,
    )
    with _worktree(repository, Path(bench.worktree), last):
        ends = _measure_ends(bench, first, last, say)
        if ends is None:
            raise DeltamoeError(
                f"{bad} has no confirmed slowdown of more than {threshold:.0%} against {good}, so there is nothing to "
                "look for; more --rounds tell smaller differences"
            )
        task, row = ends
        say(f"{row.name}, {row.side}: bad runs at {row.verdict.ratio:.3f} times good's speed; this is followed")
        file = folder / "task.json"
        file.write_text(json.dumps(asdict(task)))
        tree = Path(bench.worktree)
        _git(tree, "bisect", "start", last, first)
        try:
            step = ["sh", "-c", TRANSLATE, "step", sys.executable, "-P", "-m", _STEP, str(file)]
            # The steps run our code, wherever it lies, on the work tree's.
            path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
            done = subprocess.run(
                ["git", "bisect", "run", *step],
                cwd=tree,
                env={**os.environ, "PYTHONPATH": path},
                stdout=subprocess.DEVNULL,
                check=False,
            )
            if done.returncode not in (FOUND, ONLY_SKIPPED_LEFT):
                raise DeltamoeError(f"git bisect run ended with {done.returncode}; see above why")
            return Outcome(_culprits(tree), row, _git(tree, "bisect", "log").stdout)
        finally:
            _git(tree, "bisect", "reset", check=False)


@dataclass(frozen=True)
class _Task:
    """What a step of git's is told: which row of the comparison with which runs decides, and where the middle is."""

    bench: Bench
    good_runs: list[int]
    name: str
    side: str
    middle: float


def _measure_ends(bench: Bench, first: str, last: str, say: Say) -> tuple[_Task, Row] | None:
    """Measure both, again while a step could not tell them apart; None where last is not slower."""
    good, bad = list[Run](), list[Run]()
    for _ in range(ATTEMPTS):
        for title, revision, runs in ("good", first, good), ("bad", last, bad):
            say(f"{title}, {revision[:10]}: build and measure{' again' * bool(runs)}")
            _git(Path(bench.worktree), "checkout", "--quiet", "--detach", revision)
            runs.append(bench.measure())
        with Store.open(Path(bench.db)) as store:
            losses = compare(store, good, bad, bench.threshold).losses
        if not losses:
            return None
        row = min(losses, key=lambda row: row.verdict.ratio)
        task = _Task(bench, [run.id for run in good], row.name, row.side, math.sqrt(row.verdict.ratio))
        if row.verdict.high < task.middle:
            break
    return task, row


def _step(task: _Task, say: Say) -> int:
    """Measure what is checked out: :data:`GOOD`, :data:`BAD` or :data:`SKIP`."""
    label = _git(Path(task.bench.worktree), "log", "-1", "--format=%h %s").stdout.strip()
    runs: list[Run] = []
    for _ in range(ATTEMPTS):
        try:
            runs.append(task.bench.measure())
            with Store.open(Path(task.bench.db)) as store:
                good = [run for run in store.runs() if run.id in task.good_runs]
                rows = compare(store, good, runs, task.bench.threshold).rows
            found = next(row.verdict for row in rows if (row.name, row.side) == (task.name, task.side))
        except (DeltamoeError, StopIteration) as error:
            say(f"{label}: skipped: {error or 'it measures something else'}")
            return SKIP
        if not found.low <= task.middle <= found.high:
            is_bad = found.ratio < task.middle
            say(f"{label}: {'bad' if is_bad else 'good'}, at {found.ratio:.3f} ({found.low:.3f} to {found.high:.3f})")
            return BAD if is_bad else GOOD
    say(f"{label}: skipped: too noisy to tell, {found.low:.3f} to {found.high:.3f} times good's speed")
    return SKIP


def _culprits(tree: Path) -> list[str]:
    """The revisions that may be the first bad one: that which git names, and skipped ones right before it."""
    good = _git(tree, "for-each-ref", "--format=%(objectname)", "refs/bisect/good-*").stdout.split()
    bad = _git(tree, "rev-parse", "refs/bisect/bad").stdout.strip()
    found = _git(tree, "rev-list", bad, "--not", *good).stdout.split()
    return found[::-1]


@contextmanager
def _worktree(repository: Path, path: Path, revision: str) -> Iterator[None]:
    """A work tree of the repository that is gone at the end; one that an earlier end left behind is replaced."""
    _git(repository, "worktree", "remove", "--force", str(path), check=False)
    _git(repository, "worktree", "prune")
    _git(repository, "worktree", "add", "--detach", "--quiet", str(path), revision)
    try:
        yield
    finally:
        _git(repository, "worktree", "remove", "--force", str(path), check=False)


def _commit(repository: Path, name: str) -> str:
    done = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False)
    if done.returncode:
        raise DeltamoeError(f"{name} is no revision of {repository}; see git log")
    return done.stdout.strip()


def _git(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except OSError as error:
        raise DeltamoeError(f"git does not run: {error}; bisecting needs it") from error
    if check and done.returncode:
        raise DeltamoeError(f"git {' '.join(arguments)} failed: {' '.join(done.stderr.split())}")
    return done


def _main() -> int:
    values = json.loads(Path(sys.argv[1]).read_text())
    task = _Task(**{**values, "bench": Bench(**values["bench"])})
    return _step(task, lambda text: print(text, file=sys.stderr, flush=True))


if __name__ == "__main__":
    raise SystemExit(_main())
