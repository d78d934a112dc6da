"""What a figure depends on beside the code that is measured: the machine, the versions, the revision."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import psutil

import deltamoe

__all__ = ["Revision", "fingerprint", "git", "machine", "revision", "versions"]

PACKAGE = Path(deltamoe.__file__).resolve().parent
GIT_SECONDS = 30.0


@dataclass(frozen=True)
class Revision:
    """What of the history is running.

    Attributes:
        name: git's full hash; outside a checkout ``v`` and deltamoe's version.
        dirty: whether tracked files differ from it.
    """

    name: str
    dirty: bool


def machine() -> dict[str, Any]:
    """The hardware and the kind of operating system; sizes in GiB, whole."""
    gpu = None
    if mx.is_available(mx.gpu):
        info = mx.device_info(mx.gpu)
        gpu = info.get("device_name", info.get("architecture", "unknown"))
    return {
        "cpu": mx.device_info(mx.cpu).get("device_name") or platform.processor() or "unknown",
        "cores": psutil.cpu_count(logical=False) or 0,
        "logical_cores": _usable_cores(),
        "memory": round(psutil.virtual_memory().total / 2**30),
        "gpu": gpu,
        "system": platform.system(),
        "architecture": platform.machine(),
    }


def fingerprint(facts: dict[str, Any]) -> str:
    """16 hexadecimal digits, equal where the facts are equal."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def versions() -> dict[str, Any]:
    """Versions of software, the kernels in use and their threads, and a hash of the package's files."""
    features = deltamoe.cpu_features()
    return {
        "deltamoe": deltamoe.__version__,
        "build": _hash_of_package(),
        "mlx": version("mlx"),
        "mlx_lm": version("mlx-lm"),
        "python": platform.python_version(),
        "os": platform.release(),
        "isa": features["isa"],
        "threads": features["threads"],
        "device": "cpu" if mx.default_device() == mx.cpu else "gpu",
    }


def revision(package: Path = PACKAGE) -> Revision:
    """The git revision of the checkout that a package's files belong to, or its version where there is none."""
    without = Revision(f"v{deltamoe.__version__}", False)
    if git(package, "ls-files", "--error-unmatch", "__init__.py") is None:  # not in a checkout, or ignored by it
        return without
    name = git(package, "rev-parse", "HEAD")
    changes = git(package, "status", "--porcelain", "--untracked-files=no")
    if name is None or changes is None:
        return without
    return Revision(name, changes != "")


def git(folder: Path, *arguments: str) -> str | None:
    """What a git command prints in a folder; None where it fails or git is not there."""
    # --no-optional-locks: the status of a checkout that someone works in is read without touching its index.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: this process may be held to some of the machine's
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


@cache
def _hash_of_package() -> str:
    """Of the Python files and the extension: two builds of one revision, or two states of dirty files, differ."""
    found = hashlib.sha256()
    for path in sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".so")):
        found.update(f"{path.relative_to(PACKAGE)}\0{path.stat().st_size}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
