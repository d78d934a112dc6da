"""What `make cross` checks: that symbols which are not there are found out. The wheel itself takes minutes: .ci/run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytest.importorskip("ziglang", reason="ziglang is missing (pip install ziglang): tools/cross is not tested")
from tools.cross import build


def link(path: Path, code: str, *options: str) -> Path:
    """A macOS library of C code, with what it does not define left undefined."""
    source = path.with_suffix(".c")
    source.write_text(code)
    command = [build.ZIG, "cc", "-target", "aarch64-macos.14.0", "-shared", "-Wl,-undefined,dynamic_lookup"]
    subprocess.run([*command, *options, source, "-o", path], check=True)
    return path


@pytest.fixture(scope="module")
def libmlx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for MLX's."""
    path = tmp_path_factory.mktemp("mlx") / "libmlx.dylib"
    return link(
        path,
        "void there(void) {} static int hidden; int* at(void) { return &hidden; }",
        f"-Wl,-install_name,@rpath/{path.name}",
    )


def extension(folder: Path, libmlx: Path, code: str) -> Path:
    """An extension that calls MLX, CPython and the C library, and runs ``code``."""
    declared = "void there(void); void* PyLong_FromLong(long); int puts(const char*);"
    called = "there(); PyLong_FromLong(1); puts(text);"
    return link(folder / "_ext.so", f"{declared} void run(const char* text) {{ {called} {code} }}", str(libmlx))


def test_symbols_of_a_library(libmlx: Path) -> None:
    exported = build.read_symbols(libmlx).exported
    assert {"_there", "_at"} <= exported
    assert "_hidden" not in exported


def test_what_is_there_passes(tmp_path: Path, libmlx: Path) -> None:
    found = build.check(extension(tmp_path, libmlx, ""), libmlx)
    assert "1 of libmlx.dylib" in found
    assert "1 of CPython" in found
    assert "of libSystem.B.dylib" in found


def test_what_is_nowhere_is_found_out(tmp_path: Path, libmlx: Path) -> None:
    with pytest.raises(SystemExit, match=r"lacks\n  _nowhere from nowhere$"):
        build.check(extension(tmp_path, libmlx, "void nowhere(void); nowhere();"), libmlx)


def test_what_mlx_no_longer_exports_is_found_out(tmp_path: Path, libmlx: Path) -> None:
    other = link(tmp_path / "other.dylib", "void elsewhere(void) {}")
    with pytest.raises(SystemExit, match=r"lacks\n  _there from @rpath/libmlx.dylib$"):
        build.check(extension(tmp_path, libmlx, ""), other)


def test_python_api() -> None:
    api = build.python_api()
    assert {"_PyLong_FromLong", "_PyModule_Create2", "_PyObject_Vectorcall"} <= api
    assert "_there" not in api
