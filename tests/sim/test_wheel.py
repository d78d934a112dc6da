"""What is taken from the macOS wheel is whole, or refused."""

from __future__ import annotations

import base64
import hashlib
import struct
import zipfile
from pathlib import Path

import pytest

from tests.sim.wheel import MEMBER, NoMetallib, is_whole, unpacked

LIBRARY = b"MTLB" + bytes(12) + struct.pack("<Q", 40) + bytes(16)


def wheel(path: Path, recorded: bytes) -> Path:
    """One that holds LIBRARY and records something."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(recorded).digest()).decode().rstrip("=")
    with zipfile.ZipFile(path / "mlx_metal.whl", "w") as archive:
        archive.writestr(MEMBER, LIBRARY)
        archive.writestr("mlx_metal.dist-info/RECORD", f"{MEMBER},sha256={digest},{len(recorded)}\nRECORD,,\n")
    return path / "mlx_metal.whl"


def test_what_the_record_confirms_is_taken(tmp_path: Path) -> None:
    """Byte for byte."""
    assert unpacked(wheel(tmp_path, LIBRARY)) == LIBRARY


def test_what_the_record_does_not_confirm_is_refused(tmp_path: Path) -> None:
    """With a reason."""
    with pytest.raises(NoMetallib, match="damaged"):
        unpacked(wheel(tmp_path, LIBRARY + b"more"))


@pytest.mark.parametrize(
    ("data", "whole"),
    [(LIBRARY, True), (LIBRARY[:-1], False), (b"", False), (b"MTLX" + LIBRARY[4:], False), (None, False)],
    ids=["whole", "cut", "empty", "other", "absent"],
)
def test_a_cached_file_must_be_as_long_as_it_says(tmp_path: Path, data: bytes | None, whole: bool) -> None:
    """Else it is downloaded again."""
    path = tmp_path / "mlx.metallib"
    if data is not None:
        path.write_bytes(data)
    assert is_whole(path) == whole
