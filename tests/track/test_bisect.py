"""Bisecting a repository whose revisions say how fast they are: real git, a stand-in for building and measuring."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

import deltamoe
from deltamoe.errors import DeltamoeError
from deltamoe.track import bisect as module
from deltamoe.track.bisect import Outcome, bisect

ROOTS = [str(Path(deltamoe.__file__).parents[1]), str(Path(__file__).parents[2])]

# What `make build` installs as the revision's own `deltamoe`: it records made-up samples of the speed in the file.
PROGRAM = f"""\
#!{sys.executable}
import os, sys
assert not [name for name in os.environ if name == "PYTHONPATH" or name.startswith("GIT_")]  # would lead elsewhere
sys.path[:0] = {ROOTS!r}
from pathlib import Path
from deltamoe.track.store import Store
from tests.track.made_up import recorded
assert sys.argv[1:4] == ["track", "record", "--db"], sys.argv
assert sys.argv[5:] == ["--rounds", "20"], sys.argv
speed, scatter = map(float, Path("speed").read_text().split())
with Store.open(Path(sys.argv[4])) as store:
    recorded(store, "x", speed=speed, scatter=scatter, seed=int(1000 * speed))
"""
MAKEFILE = dedent("""\
    build:
    \t@! grep -q broken speed
    \t@mkdir -p $(VENV)/bin
    \t@cp program $(VENV)/bin/deltamoe
    \t@chmod +x $(VENV)/bin/deltamoe
    """)


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path, speeds: list[str]) -> list[str]:
    """A revision for each content of the file ``speed``: the relative speed and the scatter."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "program").write_text(PROGRAM)
    (folder / "Makefile").write_text(MAKEFILE)
    revisions = []
    for number, speed in enumerate(speeds):
        (folder / "speed").write_text(speed)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--allow-empty", "-m", f"revision {number}")
        revisions.append(git(folder, "rev-parse", "HEAD"))
    return revisions


def find(tmp_path: Path, good: str, bad: str, say: Callable[[str], None] = lambda text: None) -> Outcome:
    return bisect(
        good,
        bad,
        repository=tmp_path / "repository",
        folder=tmp_path / "bisect",
        options=["--rounds", "20"],
        threshold=0.03,
        say=say,
    )


def state(folder: Path) -> tuple[str, str, str]:
    return git(folder, "rev-parse", "HEAD"), git(folder, "status", "--porcelain"), git(folder, "worktree", "list")


def test_the_slow_revision_is_found_and_the_checkout_left_alone(tmp_path: Path) -> None:
    speeds = ["1.0 0.02", "1.005 0.02", "0.99 0.02", "0.9 0.02", "0.905 0.02"]
    revisions = repository(tmp_path / "repository", speeds)
    before = state(tmp_path / "repository")
    found = find(tmp_path, revisions[0], revisions[-1])
    assert found.culprits == [revisions[3]]
    assert found.row.side == "patched / stock"
    assert found.row.verdict.ratio == pytest.approx(0.9, abs=0.02)
    assert revisions[3] in found.log
    assert state(tmp_path / "repository") == before


@pytest.mark.parametrize(("scatter", "times"), [("0.02", 1), ("0.15", 3)])
def test_ends_are_measured_until_a_step_could_tell_them_apart(tmp_path: Path, scatter: str, times: int) -> None:
    revisions = repository(tmp_path / "repository", [f"1.0 {scatter}", f"0.85 {scatter}"])
    said: list[str] = []
    assert find(tmp_path, *revisions, say=said.append).culprits == [revisions[1]]
    assert [text.split(",")[0] for text in said[:-1]] == ["good", "bad"] * times


def test_revisions_that_cannot_be_built_are_passed_over(tmp_path: Path) -> None:
    revisions = repository(tmp_path / "repository", ["1.0 0.02", "broken", "0.9 0.02", "0.9 0.01"])
    assert find(tmp_path, revisions[0], revisions[-1]).culprits == revisions[1:3]


def test_revisions_too_noisy_to_tell_are_passed_over(tmp_path: Path) -> None:
    revisions = repository(tmp_path / "repository", ["1.0 0.01", "0.96 1.5", "0.93 0.01"])
    assert find(tmp_path, revisions[0], revisions[-1]).culprits == revisions[1:]


def test_without_a_slowdown_there_is_nothing_to_look_for(tmp_path: Path) -> None:
    revisions = repository(tmp_path / "repository", ["1.0 0.02", "1.0 0.02", "0.995 0.02"])
    with pytest.raises(DeltamoeError, match="no confirmed slowdown of more than 3%"):
        find(tmp_path, revisions[0], revisions[-1])
    assert len(git(tmp_path / "repository", "worktree", "list").splitlines()) == 1


def test_an_end_that_cannot_be_built(tmp_path: Path) -> None:
    revisions = repository(tmp_path / "repository", ["1.0 0.02", "broken"])
    with pytest.raises(DeltamoeError, match="the revision does not build: make build"):
        find(tmp_path, revisions[0], revisions[-1])


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    revisions = repository(tmp_path / "repository", ["1.0 0.02", "0.9 0.02"])
    with pytest.raises(DeltamoeError, match="nowhere is no revision"):
        find(tmp_path, "nowhere", "HEAD")
    with pytest.raises(DeltamoeError, match="is no ancestor"):
        find(tmp_path, revisions[1], revisions[0])


def test_a_work_tree_left_behind_is_replaced(tmp_path: Path) -> None:
    revisions = repository(tmp_path / "repository", ["1.0 0.02", "0.9 0.02"])
    git(tmp_path / "repository", "worktree", "add", "--detach", str(tmp_path / "bisect" / "worktree"))
    assert find(tmp_path, revisions[0], revisions[1]).culprits == [revisions[1]]


def test_a_step_that_fails_is_no_bad_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own status of failure is 1, which git bisect run would take for a bad revision."""
    revisions = repository(tmp_path / "repository", ["1.0 0.02", "1.0 0.01", "0.9 0.02"])
    monkeypatch.setattr(module, "_STEP", "deltamoe.track.no_such_module")
    with pytest.raises(DeltamoeError, match="git bisect run ended with"):
        find(tmp_path, revisions[0], revisions[-1])
    assert len(git(tmp_path / "repository", "worktree", "list").splitlines()) == 1
