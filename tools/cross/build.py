"""Builds the wheel for macOS on arm64 on any machine, and checks that a Mac can load it.

    python tools/cross/build.py BUILD_FOLDER DIST_FOLDER

zig's clang compiles, with the headers and libmlx.dylib of the mlx-metal wheel, which pip downloads into the build
folder. Nothing here can run the result. What can be checked is that each symbol that it leaves to be found at load time
is there: in libmlx.dylib; in CPython's API; in macOS itself, of which two lists are at hand: zig's, of libSystem, and
what libmlx.dylib, which Apple's linker made, takes from libc++ and libobjc.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import nanobind
import ziglang

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLATFORM = "macosx_14_0_arm64"
ZIG = Path(ziglang.__file__).parent / "zig"

COMPILE = (
    "-target aarch64-macos.14.0 "
    "-fno-sanitize=undefined "  # zig's default
    # Otherwise libc++'s headers take it that the libc++ that is loaded is as new as they are.
    "-U_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS -D_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS=1"
)
LINK = "-nostdlib++ -Wl,-undefined,dynamic_lookup"  # not zig's libc++; CPython's API is found at load time


class Symbols(NamedTuple):
    """Of a Mach-O file."""

    exported: set[str]
    undefined: dict[str, str]
    """Symbol -> the library it is to come from, or "" for any that is loaded."""


def read_symbols(path: Path) -> Symbols:
    """The symbol table of a 64-bit Mach-O file (mach-o/loader.h, mach-o/nlist.h)."""
    data = path.read_bytes()
    magic, _, _, _, commands, _, _, _ = struct.unpack_from("<8I", data)
    if magic != 0xFEEDFACF:
        raise SystemExit(f"{path} is no 64-bit Mach-O file")
    libraries, table, at = [""], (0, 0, 0, 0), 32
    for _ in range(commands):
        command, size = struct.unpack_from("<2I", data, at)
        if command & 0x7FFFFFFF in (0xC, 0x18, 0x1F):  # LC_LOAD_DYLIB, LC_LOAD_WEAK_DYLIB, LC_REEXPORT_DYLIB
            start = at + struct.unpack_from("<I", data, at + 8)[0]
            libraries.append(data[start : data.index(b"\0", start)].decode())
        if command == 2:  # LC_SYMTAB
            table = struct.unpack_from("<4I", data, at + 8)
        at += size
    symbols, count, strings, _ = table
    exported, undefined = set(), {}
    for i in range(count):
        name_at, kind, _, description, _ = struct.unpack_from("<IBBHQ", data, symbols + 16 * i)
        name = data[strings + name_at : data.index(b"\0", strings + name_at)].decode()
        if kind & 0xF0 or not kind & 1:  # for a debugger, or not external
            continue
        if kind & 0xE:
            exported.add(name)
        else:
            ordinal = description >> 8  # 0xfe: any library that is loaded
            undefined[name] = libraries[ordinal] if ordinal < len(libraries) else ""
    return Symbols(exported, undefined)


def python_api() -> set[str]:
    """CPython's API, as nanobind's linker options list it."""
    listed = Path(nanobind.cmake_dir(), "darwin-ld-cpython.sym").read_text()
    return set(re.findall(r"-U (\S+)", listed))


def check(extension: Path, libmlx: Path) -> str:
    """Stops unless a Mac has all that the extension leaves undefined; else says what that is."""
    exported, api = read_symbols(libmlx).exported, python_api()
    undefined = read_symbols(extension).undefined
    missing = []
    for name, library in sorted(undefined.items()):
        if library.endswith("/libmlx.dylib"):
            there = name in exported
        elif library:  # the linker found it in one of the lists: zig's, or `write_stub`'s
            there = library in (*MORE, "/usr/lib/libSystem.B.dylib")
        else:
            there = name in api
        if not there:
            missing.append(f"  {name} from {library or 'nowhere'}")
    if missing:
        raise SystemExit("make cross: a Mac could not load the extension: it lacks\n" + "\n".join(missing))
    counts = Counter(Path(library).name or "CPython" for library in undefined.values())
    return f"{len(undefined)} undefined symbols, all there: " + ", ".join(
        f"{n} of {name}" for name, n in counts.items()
    )


MORE = {
    # Of C++'s own runtime and of releases before macOS 12, the oldest that libc++ still tells apart.
    "/usr/lib/libc++.1.dylib": (
        "__ZNSt3__120__libcpp_atomic_waitEPVKvx",
        "__ZNSt3__123__cxx_atomic_notify_allEPVKv",
        "__ZNSt3__123__libcpp_atomic_monitorEPVKv",
        "__ZNSt3__19to_stringEj",
        "__ZNSt3__19to_stringEx",
        "__ZNSt8bad_castC1Ev",
        "__ZNSt8bad_castD1Ev",
        "__ZTISt8bad_cast",
        "__ZTVN10__cxxabiv116__enum_type_infoE",
        "__ZdlPvSt11align_val_t",
        "__ZdlPvm",
        "__ZnwmSt11align_val_t",
        "___dynamic_cast",
    ),
    "/usr/lib/libobjc.A.dylib": (),
}
"""Libraries of macOS that libmlx.dylib uses, and what they have besides what it takes from them."""


def write_stub(path: Path, library: str, symbols: Iterable[str]) -> None:
    """A library to link against, in place of Apple's."""
    path.write_text(
        "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\n"
        f"install-name: '{library}'\nexports:\n  - targets: [ arm64-macos ]\n"
        f"    symbols: [ {', '.join(map(repr, sorted(symbols)))} ]\n...\n"
    )


def unpack_mlx(folder: Path) -> Path:
    """The mlx-metal wheel of the installed MLX; downloaded once."""
    version = importlib.metadata.version("mlx")
    wheels = folder / f"mlx-metal-{version}"
    if not list(wheels.glob("*.whl")):
        options = [f"--platform={PLATFORM}", "--only-binary=:all:", "--no-deps"]
        pip("download", *options, f"--dest={wheels}", f"mlx-metal=={version}", log=folder / "download.log")
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder / "mlx"


def write_tools(folder: Path, libraries: Iterable[Path]) -> None:
    """c++, ar and ranlib for CMake."""
    folder.mkdir(exist_ok=True)
    include = HERE / "include"
    linked = " ".join(f"'{path}'" for path in libraries)
    scripts = {
        "c++": f"""\
# Left out: a response file for the linker, which lists CPython's symbols, as zig's takes none and LINK leaves them
# undefined; -march, which zig takes for a CPU's name: the target means Apple's first arm64 Mac. Its linker crashes at
# -bundle; Python loads either kind.
compiling=
for argument do
  shift
  case $argument in
    -c) compiling=1; set -- "$@" -c ;;
    -Wl,@* | -march=*) ;;
    -bundle) set -- "$@" -shared ;;
    *) set -- "$@" "$argument" ;;
  esac
done
[ $compiling ] || set -- "$@" {LINK} {linked}
exec '{ZIG}' c++ {COMPILE} -I'{include}' "$@"
""",
        "ar": f"exec '{ZIG}' ar \"$@\"\n",
        "ranlib": f"exec '{ZIG}' ranlib \"$@\"\n",
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)


def pip(*arguments: str, log: Path) -> None:
    """Run pip, and stop where it fails, with what it printed."""
    with log.open("w") as output:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
        if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode:
            raise SystemExit(f"{log.read_text()}make cross: pip {arguments[0]} failed")


def main(folder: Path, dist: Path) -> None:
    """Build and check."""
    folder.mkdir(parents=True, exist_ok=True)
    libmlx = unpack_mlx(folder) / "lib" / "libmlx.dylib"

    headers = folder / "python"
    shutil.copytree(sysconfig.get_path("include"), headers, dirs_exist_ok=True)
    shutil.copy(HERE / "pyconfig.h", headers)

    seen = read_symbols(libmlx).undefined
    stubs = []
    for library, more in MORE.items():
        stubs.append(folder / f"{Path(library).stem.split('.')[0]}.tbd")
        write_stub(stubs[-1], library, {name for name, source in seen.items() if source == library} | set(more))
    write_tools(folder / "bin", stubs)

    settings = {
        "build-dir": str(folder / "build"),
        "cmake.args": f"-DCMAKE_TOOLCHAIN_FILE={HERE / 'toolchain.cmake'};-DCROSS_DIR={folder}",
        "wheel.tags": f"cp311-abi3-{PLATFORM}",
    }
    options = [f"--config-settings={key}={value}" for key, value in settings.items()]
    options += ["--no-build-isolation", "--no-deps", "--verbose", f"--wheel-dir={dist}"]
    pip("wheel", *options, str(ROOT), log=folder / "build.log")

    (wheel,) = dist.glob(f"deltamoe-*-{PLATFORM}.whl")
    with zipfile.ZipFile(wheel) as archive:
        extension = Path(archive.extract("deltamoe/_ext.abi3.so", folder))
    print(f"make cross: {check(extension, libmlx)}")
    if not any("CommandEncoder" in name for name in read_symbols(extension).undefined):
        raise SystemExit("make cross: the extension never calls Metal")
    print(f"make cross: {wheel}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
