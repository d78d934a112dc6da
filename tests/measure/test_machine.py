"""What a run is stamped with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import deltamoe
from deltamoe.measure import machine


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_fingerprint_depends_on_facts_alone() -> None:
    facts = machine.machine()
    assert machine.fingerprint(facts) == machine.fingerprint(dict(reversed(facts.items())))
    assert machine.fingerprint(facts) != machine.fingerprint({**facts, "cores": -1})


def test_facts_of_this_machine() -> None:
    facts = machine.machine()
    assert facts["cpu"]
    assert facts["logical_cores"] >= 1
    assert facts["memory"] >= 1


def test_versions() -> None:
    found = machine.versions()
    assert found["deltamoe"] == deltamoe.__version__
    assert found["isa"] == deltamoe.cpu_features()["isa"]
    assert found["device"] in ("cpu", "gpu")
    assert len(found["build"]) == 16


def test_revision_of_a_checkout(tmp_path: Path) -> None:
    package = tmp_path / "python" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    outside = machine.revision(package)
    assert outside == machine.Revision(f"v{deltamoe.__version__}", False)

    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "nothing")
    assert machine.revision(package) == outside  # not among the checkout's files
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "--quiet", "-m", "first")
    head = _git(tmp_path, "rev-parse", "HEAD")
    assert machine.revision(package) == machine.Revision(head, False)

    (package / "new.py").write_text("")
    assert not machine.revision(package).dirty  # not git's yet
    (package / "__init__.py").write_text("changed = 1\n")
    assert machine.revision(package) == machine.Revision(head, True)
