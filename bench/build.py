"""Builds the kernels of a tree of files, for benchmarks that compare two builds."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

__all__ = ["ROOT", "build", "export"]

ROOT = Path(__file__).resolve().parents[1]


def build(tree: Path, folder: Path) -> Path:
    """Build the extension of a tree in a folder; returns its file.

    Raises:
        SystemExit: it does not build.
    """
    # CMake and Ninja lie beside the interpreter where make has installed them
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    options = ["-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}"]
    for command in (
        ["cmake", "-S", str(tree), "-B", str(folder), *options],
        ["cmake", "--build", str(folder), "--target", "_ext"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    (found,) = folder.glob("_ext*.so")
    return found


def export(revision: str, folder: Path) -> None:
    """Write the files of a revision to a folder.

    Raises:
        SystemExit: git knows no such revision.
    """
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", "--end-of-options", revision]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{revision} is neither a build nor a revision: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as files:
        files.extractall(folder, filter="data")
