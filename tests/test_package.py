"""The package as installed: it loads against this mlx, refuses any other, and shares mlx's array type."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from collections import defaultdict
from importlib.metadata import requires, version
from pathlib import Path

import mlx.core as mx
import pytest
from packaging.requirements import Requirement

import deltamoe
from deltamoe import _ext, ops


def run(code: str) -> str:
    """Run Python code in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_versions_agree() -> None:
    pins = [requirement for text in requires("deltamoe") or [] if (requirement := Requirement(text)).name == "mlx"]
    assert pins
    assert {str(pin.specifier) for pin in pins} == {f"=={mx.__version__}"}
    assert _ext.built_for_mlx == mx.__version__
    assert deltamoe.__version__ == version("deltamoe")


def test_another_mlx_is_refused_before_the_extension_loads() -> None:
    printed = run(
        """
        import sys
        import mlx.core as mx

        built_for, mx.__version__ = mx.__version__, "0.1.2"
        try:
            import deltamoe
        except ImportError as error:
            print(type(error).__module__, type(error).__name__, "deltamoe._ext" in sys.modules)
            print(str(error).replace(built_for, "BUILT_FOR"))
        """
    )
    kind, message = printed.split("\n", 1)
    assert kind == "deltamoe.errors VersionMismatchError False"
    assert "built for mlx BUILT_FOR" in message
    assert "mlx 0.1.2" in message
    assert 'pip install "mlx==BUILT_FOR"' in message


def test_mlx_without_a_back_end_is_explained() -> None:
    printed = run(
        """
        import sys

        sys.modules["mlx.core"] = None
        try:
            import deltamoe
        except ImportError as error:
            print(type(error).__name__, error)
        """
    )
    assert printed.startswith("MissingBackendError")
    assert f'pip install "mlx[cpu]=={mx.__version__}"' in printed


def test_extension_finds_libmlx_by_itself() -> None:
    # Without mlx.core in the process, only the extension's own rpath leads to libmlx.
    path = _ext.__file__
    assert run(f"import ctypes; ctypes.CDLL({path!r}); print('loaded')") == "loaded\n"


def test_extension_is_of_the_stable_abi() -> None:
    assert re.search(r"_ext\.abi3\.so$", str(_ext.__file__))


def test_arrays_are_those_of_mlx() -> None:
    # In a wrong nanobind domain the type is unknown: the signature shows C++'s name and every call is a TypeError.
    signature = str(_ext.rms_norm.__doc__)
    assert "mlx.core.array" in signature
    assert "mlx::core" not in signature
    assert ops.rms_norm(mx.ones((1, 8)), None, 1e-6).shape == (1, 8)
    with pytest.raises(TypeError, match=r"mlx\.core\.array"):
        _ext.rms_norm("no array", None, 1e-6)


OBJECTS = Path(sys.prefix) / "build" / "CMakeFiles"  # where `make build` leaves them


@pytest.mark.skipif(not (sys.platform == "linux" and shutil.which("nm")), reason="reads ELF objects with nm")
@pytest.mark.skipif(not OBJECTS.is_dir(), reason="deltamoe was not built here with `make build`")
def test_linker_cannot_mix_instruction_sets() -> None:
    # Of functions with one name the linker keeps any copy: one compiled for AVX-512 would then run on every machine.
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for path in (path for target in ("_ext.dir", "deltamoe_cpu.dir") for path in (OBJECTS / target).rglob("*.o")):
        isa = path.parent.name if path.name.startswith("kernels.cpp") else "portable"
        listed = subprocess.run(["nm", "--defined-only", path], capture_output=True, text=True, check=True).stdout
        for kind, name in re.findall(r"^\S+ (\w) (\S+)$", listed, re.MULTILINE):
            if kind in "WVu":
                holders[name].add(isa)
    assert holders
    assert {name: isas for name, isas in holders.items() if len(isas) > 1} == {}
