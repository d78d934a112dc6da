"""Runs clang 22 (of the ziglang package) in its C++ for OpenCL mode, the dialect nearest to Metal's."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltamoe_sim.errors import CompileError, Diagnostic, SimError

INCLUDE = Path(__file__).resolve().parent / "include"
"""The shim: Metal's standard library, written for this compiler."""

VERSIONS = (310, 320)
"""Language versions: what __METAL_VERSION__ may be."""

LINE_MARKER = re.compile(r'[ \t]*#[ \t]*(?:line[ \t]+)?(\d+)[ \t]+"([^"\n]*)"')
"""Of preprocessed text: line and file of what follows."""

_LANGUAGE = ["-x", "clcpp", "-cl-std=CLC++2021", "-cl-no-stdinc"]
_EXTENSIONS = ",".join(
    [
        "-cl-ext=-all",
        "+cl_khr_fp16",
        "+cl_khr_fp64",  # for the shim only: source.py refuses a shader's own double
        "+__opencl_c_fp64",
        "+__opencl_c_generic_address_space",
        "+__opencl_c_program_scope_global_variables",
        "+__cl_clang_function_pointers",
    ]
)
_FLAGS = [
    *["-Xclang", _EXTENSIONS],
    # Unoptimised, but as if optimisation followed: not optnone, and with the lifetimes of variables.
    *["-O1", "-Xclang", "-disable-llvm-passes", "-g1", "-fdebug-compilation-dir=."],
    "-fdeclspec",  # swizzles are properties
    "-fsigned-char",
    "-fno-strict-aliasing",  # kernels read words as other types
    "-ffp-contract=on",  # within a statement, as Apple's compiler
    "-fno-math-errno",
    "-ftrivial-auto-var-init=pattern",
    # Each operation on half and bfloat is rounded, none computed in float across an expression.
    *["-Xclang", "-ffloat16-excess-precision=none"],
    *["-Xclang", "-fbfloat16-excess-precision=none"],
    *["-fno-color-diagnostics", "-fno-caret-diagnostics", "-ferror-limit=100", "-ftemplate-backtrace-limit=0"],
    "-Wno-everything",
    "-Wimplicit-float-conversion",  # of which those to bfloat are errors in Metal
]
_PREFIX = ["-include", str(INCLUDE / "sim" / "prefix.h")]

_DIAGNOSTIC = re.compile(r"^(.+?):(\d+):(\d+): (fatal error|error|warning|note): (.*)$", re.MULTILINE)
_TO_BFLOAT = re.compile(r"implicit conversion loses floating-point precision: ('.*') to 'bfloat'")
_ASSERTION = re.compile(r"static assertion failed(?: due to requirement '.*?')?: (?=\w)")
_GENERATED = "metalsim"
_METAL_NAMES = {
    " *__private'": " *'",
    "__global_device": "device",
    "const __global": "constant",
    "__global": "constant",
    "__constant": "constant",
    "__private": "thread",
    "__local": "threadgroup",
    "__generic": "",
    "'bfloat' (aka '__bf16')": "'bfloat'",
    "__bf16": "bfloat",
}


def preprocess(source: str, name: str, include: Sequence[Path], defines: Mapping[str, str], version: int) -> str:
    """The source with its headers and macros expanded; `name` stands for its file.

    Line markers are kept. Of <metal_stdlib> only they are: `run` has its content precompiled.
    """
    if version not in VERSIONS:
        raise ValueError(f"language version {version}: expected one of {', '.join(map(str, VERSIONS))}")
    arguments = [
        *["-E", "-U__OPENCL_CPP_VERSION__", "-U__OPENCL_C_VERSION__", "-D__METAL__=1", "-D__METAL_MACOS__=1"],
        *[f"-D__METAL_VERSION__={version}", "-fno-color-diagnostics", "-Wno-everything"],
        *["-iquote", str(Path(name).parent), *(f"-I{path}" for path in include), "-isystem", str(INCLUDE)],
        *[f"-D{key}={value}" for key, value in defines.items()],
    ]
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return _without(_library().files, _expanded(arguments, f'# 1 "{quoted}"\n{source}'))


def emit_ir(text: str) -> str:
    """Unoptimised LLVM IR of preprocessed and rewritten text."""
    with tempfile.TemporaryDirectory(prefix="deltamoe_sim_") as directory:
        path = Path(directory) / "shader.ll"
        _raise_errors(run(["-emit-llvm", "-S", "-o", str(path)], text))
        return path.read_text()


def run(arguments: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    """Runs the compiler over preprocessed and rewritten text."""
    library = _library()
    includes_library = f'"{library.header}"' in text
    prefix = ["-include-pch", str(library.precompiled)] if includes_library else _PREFIX
    return _clang([*_FLAGS, *prefix, *arguments, "-"], text)


@dataclass(frozen=True)
class _Library:
    header: Path
    """What a shader includes to get it."""
    files: frozenset[str]
    precompiled: Path


@functools.cache
def _library() -> _Library:
    """<metal_stdlib>, parsed once: that takes longer than most shaders."""
    directory = tempfile.TemporaryDirectory(prefix="deltamoe_sim_")
    atexit.register(directory.cleanup)
    path = Path(directory.name) / "library.pch"
    text = _expanded(["-E", "-isystem", str(INCLUDE)], "#include <metal_stdlib>\n")
    _raise_errors(_clang([*_FLAGS, *_PREFIX, "-S", "-emit-llvm", "-Xclang", "-emit-pch", "-o", str(path), "-"], text))
    files = frozenset(file for _, file in LINE_MARKER.findall(text) if file.startswith(str(INCLUDE)))
    return _Library(INCLUDE / "metal_stdlib", files, path)


def _expanded(arguments: Sequence[str], source: str) -> str:
    result = _clang([*arguments, "-"], source)
    _raise_errors(result)
    return result.stdout


def _without(files: frozenset[str], text: str) -> str:
    """The text without the lines of these files, if it has those of <metal_stdlib>. Markers lose their flags, which
    would no longer balance."""
    if f'"{INCLUDE / "metal_stdlib"}"' not in text:
        return text
    kept = []
    dropping = False
    for line in text.split("\n"):
        if marker := LINE_MARKER.match(line):
            dropping = marker[2] in files
            kept.append(f'# {marker[1]} "{marker[2]}"')
        elif not dropping:
            kept.append(line)
    return "\n".join(kept)


def _clang(arguments: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    command = [*_compiler(), *_LANGUAGE, "-target", _target(), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


@functools.cache
def _compiler() -> list[str]:
    package = importlib.util.find_spec("ziglang")
    if package is None or package.origin is None:
        raise SimError("ziglang is not installed; it holds the compiler: pip install 'ziglang==0.17.1'")
    # The program itself: `python -m ziglang` would only start it, and Python first.
    return [str(Path(package.origin).parent / "zig"), "clang", "--driver-mode=g++"]


def _target() -> str:
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if sys.platform == "darwin":
        return f"{'arm64' if machine == 'aarch64' else machine}-apple-macosx14.0"
    return f"{machine}-unknown-linux-gnu"


def _raise_errors(result: subprocess.CompletedProcess[str]) -> None:
    diagnostics = _errors(result.stderr)
    if diagnostics:
        raise CompileError(diagnostics)
    if result.returncode:
        raise SimError(f"clang failed, and not for an error in the shader:\n{result.stderr.strip()}")


@dataclass(frozen=True)
class _Message:
    file: str
    line: int
    column: int
    severity: str
    text: str


def _errors(stderr: str) -> list[Diagnostic]:
    """Each error once. One in generated code counts only where there is no other: it follows from them."""
    groups: list[list[_Message]] = []
    for file, line, column, severity, text in _DIAGNOSTIC.findall(stderr):
        message = _Message(file, int(line), int(column), severity, text)
        if severity == "note" and groups:
            groups[-1].append(message)
        else:
            groups.append([message])
    found = dict.fromkeys(diagnostic for group in groups for diagnostic in _diagnostics(group))
    return [d for d in found if _GENERATED not in d.message] or list(found)


def _diagnostics(group: list[_Message]) -> list[Diagnostic]:
    """A message and the notes that follow it, as an error at the user's line: for one within the shim that is where the
    user's code called for it."""
    text = group[0].text
    if group[0].severity == "warning":
        conversion = _TO_BFLOAT.match(text)
        if conversion is None:
            return []
        text = f"Metal has no implicit conversion from {conversion[1]} to 'bfloat'; write bfloat(...)"
    if group[0].file.startswith(str(INCLUDE)):
        text = _ASSERTION.sub("", text)
    for name, metal_name in _METAL_NAMES.items():
        text = text.replace(name, metal_name)
    at = next((message for message in group if not message.file.startswith(str(INCLUDE))), group[0])
    return [Diagnostic(at.file, at.line, at.column, text, "compile")]
