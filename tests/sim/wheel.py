"""``mlx.metallib``: MLX's kernels as Apple's compiler left them, from the macOS wheel of the installed MLX."""

from __future__ import annotations

import base64
import csv
import fcntl
import functools
import hashlib
import importlib.metadata
import io
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import mlx
import platformdirs

MEMBER = "mlx/lib/mlx.metallib"


class NoMetallib(Exception):
    """There is none, and why; the text is a test's reason to be skipped."""


@functools.cache
def metallib() -> Path:
    """Where it is: in the installed MLX on macOS, else in the user's cache, downloaded if it has to be."""
    installed = Path(mlx.__path__[0]).parent / MEMBER
    if installed.exists():
        return installed
    version = importlib.metadata.version("mlx")
    folder = Path(platformdirs.user_cache_dir("deltamoe")) / f"mlx-metal-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mlx.metallib"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_whole(path):
            download(version, path)
    return path


def is_whole(path: Path) -> bool:
    """Whether the file is there and as long as its header says."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        header = file.read(24)
    return header[:4] == b"MTLB" and header[16:] == struct.pack("<Q", path.stat().st_size)


def download(version: str, path: Path) -> None:
    """Put the metallib of that version's wheel at ``path``, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        wanted = ["--platform=macosx_14_0_arm64", "--only-binary=:all:", "--no-deps", f"mlx-metal=={version}"]
        patience = ["--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=20"]
        pip = subprocess.run(
            [sys.executable, "-m", "pip", "download", *patience, *wanted, "--dest", folder],
            capture_output=True,
            text=True,
        )
        if pip.returncode != 0:
            last = (pip.stderr.strip() or "no message").splitlines()[-1]
            raise NoMetallib(f"no mlx.metallib: pip cannot download mlx-metal=={version} ({last})")
        (wheel,) = Path(folder).glob("*.whl")
        new = Path(folder) / "mlx.metallib"
        new.write_bytes(unpacked(wheel))
        if not is_whole(new):
            raise NoMetallib(f"the mlx.metallib of {wheel.name} is not a Metal library")
        os.replace(new, path)


def unpacked(wheel: Path) -> bytes:
    """The metallib in the wheel, checked against the wheel's record."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(MEMBER)
        (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        rows = csv.reader(io.StringIO(archive.read(record).decode()))
    recorded = {name: digest for name, digest, _ in rows}[MEMBER]
    found = "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    if found != recorded:
        raise NoMetallib(f"the mlx.metallib of {wheel.name} is damaged: {found}, recorded as {recorded}")
    return data
