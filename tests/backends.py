"""Where an op can run: one back end per instruction set of the extension.

A back end takes an op's name and arguments as ``deltamoe.ops`` does (MLX arrays, which carry their dtype, bfloat16
included) and returns the op's results as a tuple of evaluated MLX arrays. So one that runs in another process, as the
NEON kernels do under qemu, needs only :func:`flatten` and the file format below.

File format, for requests and replies alike::

    <op>\n
    <number of arrays>\n
    <name> <dtype> <ndim> <dim> ... <dim>\n      once per array
    <raw little-endian bytes of each array, in the order of the lines, without padding>

``dtype`` is MLX's name: bool, int8 to uint64, float32, float16 or bfloat16. Parameters (``k``, ``eps``...) are arrays
of no dimensions: int32, float32 or bool. An argument that is None is left out. Parts of a ``Quantized`` are named
``w.weight``, ``w.scales``, ``w.biases``; members of a tuple by their number: ``shared.0.weight``. Results are named
``0``, ``1``, ... A reply to a request that fails has ``RuntimeError <message>`` or ``ValueError <message>`` in place of
the op, and no arrays.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
import pytest

from deltamoe import _ext, ops
from deltamoe.ops import Quantized
from tests.arrays import list_arrays
from tests.compiled import EMULATES_ARM, ROOT, command, program, why_no_arm

SMALL_BLOCKS = [2**power for power in range(5, 15)]


class Backend(Protocol):
    """Runs ops."""

    name: str

    def run(self, op: str, **arguments: Any) -> tuple[mx.array, ...]:
        """The op's results, evaluated."""


class ExtensionBackend:
    """The extension in this process, on one instruction set."""

    def __init__(self, isa: str) -> None:
        self.name = isa

    def run(self, op: str, **arguments: Any) -> tuple[mx.array, ...]:
        """The op's results, evaluated into memory that held NaN before."""
        mx.eval(list_arrays(arguments))
        with instruction_set(self.name):
            results = getattr(ops, op)(**arguments)
            results = results if isinstance(results, tuple) else (results,)
            poison(result.nbytes for result in results)
            mx.eval(results)
        return results


@contextmanager
def instruction_set(isa: str) -> Iterator[None]:
    """Run the kernels of ``isa`` meanwhile."""
    before = _ext.cpu_features()["isa"]
    _ext.use_isa(isa)
    try:
        yield
    finally:
        _ext.use_isa(before)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run kernels on ``count`` threads meanwhile."""
    before = _ext.cpu_features()["threads"]
    _ext.set_threads(count)
    try:
        yield
    finally:
        _ext.set_threads(before)


def poison(sizes: Iterable[int]) -> None:
    """Leave only NaN in MLX's allocator cache, in blocks of ``sizes`` bytes and some small ones, so that what a kernel
    forgets to write shows.

    The cache serves a request with the smallest block that holds it and is not much larger.
    """
    mx.clear_cache()
    blocks = [mx.full((-(-size // 4),), float("nan")) for size in (*sizes, *SMALL_BLOCKS)]
    mx.eval(blocks)


def flatten(value: Any, name: str = "") -> dict[str, mx.array]:
    """The named arrays of a request."""
    prefix = f"{name}." if name else ""
    if value is None:
        return {}
    if isinstance(value, mx.array):
        return {name: value}
    if isinstance(value, Quantized):
        value = value._asdict()
    if isinstance(value, tuple):
        value = {str(i): part for i, part in enumerate(value)}
    if isinstance(value, dict):
        return {key: array for k, part in value.items() for key, array in flatten(part, prefix + k).items()}
    dtype = mx.bool_ if isinstance(value, bool) else mx.int32 if isinstance(value, int) else mx.float32
    return {name: mx.array(value, dtype=dtype)}


def write_arrays(path: Path, op: str, arrays: dict[str, mx.array]) -> None:
    """Write a request or a reply."""
    header = [op, str(len(arrays))]
    body = []
    for name, array in arrays.items():
        dtype = str(array.dtype).removeprefix("mlx.core.").removesuffix("_")
        header.append(" ".join([name, dtype, str(array.ndim), *map(str, array.shape)]))
        raw = array.view(mx.uint16) if array.dtype == mx.bfloat16 and array.ndim else array
        body.append(np.array(raw).tobytes())
    path.write_bytes("".join(line + "\n" for line in header).encode() + b"".join(body))


def read_arrays(path: Path) -> tuple[str, dict[str, mx.array]]:
    """The op and the arrays of a request or a reply."""
    with path.open("rb") as file:
        op = file.readline().decode().strip()
        lines = [file.readline().decode().split() for _ in range(int(file.readline()))]
        arrays = {}
        for name, dtype, _, *dims in lines:
            shape = tuple(map(int, dims))
            stored = np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")
            data = np.frombuffer(file.read(int(np.prod(shape)) * stored.itemsize), stored).reshape(shape)
            arrays[name] = mx.array(data).view(mx.bfloat16) if dtype == "bfloat16" else mx.array(data)
    return op, arrays


class NeonBackend:
    """The NEON kernels on a machine that is not Arm: ``tests/neon/runner.cpp``, cross-compiled, under qemu."""

    name = "neon"

    @cached_property
    def runner(self) -> Path:
        """The binary."""
        kernels = [ROOT / "csrc/cpu" / isa / "kernels.cpp" for isa in ("portable", "neon")]
        return program(
            "neon",
            sources=[ROOT / "tests/neon/runner.cpp", *sorted((ROOT / "csrc/cpu").glob("*.cpp")), *kernels],
            headers=sorted((ROOT / "csrc/cpu").rglob("*.h")),
            flags=["-O2", "-fno-math-errno", "-fno-trapping-math", "-DDELTAMOE_HAVE_NEON"],
            arm=True,
        )

    def run(self, op: str, **arguments: Any) -> tuple[mx.array, ...]:
        """The op's results, evaluated."""
        with tempfile.TemporaryDirectory() as folder:
            request, reply = Path(folder, "request"), Path(folder, "reply")
            write_arrays(request, op, flatten(arguments))
            environment = {**os.environ, "DELTAMOE_ISA": "neon", "DELTAMOE_THREADS": "2"}
            subprocess.run([*command(self.runner, arm=True), str(request), str(reply)], check=True, env=environment)
            got, arrays = read_arrays(reply)
        if got != op:
            kind, message = got.split(" ", 1)
            raise {"RuntimeError": RuntimeError, "ValueError": ValueError}[kind](message)
        return tuple(arrays[str(i)] for i in range(len(arrays)))


def backends() -> Iterator[Any]:
    """One back end per instruction set of the extension; on Linux x86-64 also NEON, skipped where it cannot run."""
    yield from map(ExtensionBackend, _ext.cpu_features()["available"])
    if EMULATES_ARM:  # on Arm the extension itself has them
        why_not = why_no_arm()
        yield pytest.param(NeonBackend(), marks=[pytest.mark.skip(reason=why_not)] if why_not else [])


BACKENDS = list(backends())
