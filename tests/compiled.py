"""C++ programs that tests run: compiled with zig, for this machine or for 64-bit Arm, which qemu then emulates."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
EMULATOR = "qemu-aarch64-static"
EMULATES_ARM = platform.system() == "Linux" and platform.machine() == "x86_64"
"""Whether this machine is one on which Arm code is tested under the emulator."""


def why_no_arm() -> str | None:
    """Why Arm programs cannot be made or run here, or None."""
    if shutil.which(EMULATOR) is None:
        return f"{EMULATOR} is missing (Debian: apt-get install qemu-user-static): NO ARM CODE IS TESTED"
    if importlib.util.find_spec("ziglang") is None:
        return "ziglang is missing (pip install ziglang): NO ARM CODE IS TESTED"
    return None


def program(name: str, sources: Iterable[Path], headers: Iterable[Path], flags: Iterable[str], arm: bool) -> Path:
    """The binary, compiled when its sources have changed."""
    sources = list(sources)
    options = ["-std=c++20", "-I", str(ROOT / "csrc"), *flags]
    if arm:
        options += ["-target", "aarch64-linux-musl"]
    contents = b"".join(path.read_bytes() for path in (*sources, *headers))
    digest = hashlib.sha256(" ".join(options).encode() + contents).hexdigest()
    binary = Path(sys.prefix) / "test_programs" / f"{name}-{digest[:16]}"
    if not binary.exists():
        binary.parent.mkdir(exist_ok=True)
        part = binary.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [sys.executable, "-m", "ziglang", "c++", *options, *map(str, sources), "-o", str(part)], check=True
        )
        part.replace(binary)
    return binary


def command(binary: Path, arm: bool) -> list[str]:
    """What runs it."""
    return [EMULATOR, str(binary)] if arm and EMULATES_ARM else [str(binary)]
