"""Kernels on the simulator, and what they were counted to do."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import mlx
import numpy as np
import platformdirs

import deltamoe_sim as sim
from deltamoe import _ext

Array = np.ndarray[Any, Any]

LINE = 128
"""Bytes of a cache line of Apple's GPUs."""
TIMEOUT = 3600.0
_MLX = Path(next(iter(mlx.__path__)))


@dataclass(frozen=True)
class Counts:
    """What a dispatch did, or several together."""

    bytes_loaded: int = 0
    """From device memory, by all lanes; without numbers that the command carries itself, such as sizes: a GPU has them
    before the kernel begins."""
    line_bytes: int = 0
    """128 for each cache line that a dispatch loads something of."""
    weight_bytes: int = 0
    """Those of bytes_loaded that are codes, scales and biases."""
    code_bytes: int = 0
    """Those of weight_bytes that are codes: of these no lane loads another one's, as it does of scales and biases."""
    bytes_stored: int = 0
    threadgroup_bytes: int = 0
    """Loaded from threadgroup memory and stored to it."""
    barriers: int = 0
    """Each once per threadgroup."""
    matrix_ops: int = 0
    simd_ops: int = 0
    """Each once per simdgroup, matrix operations among them."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, n: int) -> Counts:
        return Counts(*(n * getattr(self, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Dispatched:
    """A dispatch that has run."""

    kernel: str
    threadgroups: int
    counts: Counts
    parts: int = 1
    """How many such parts the dispatch has that this one is a part of."""
    loaded: Mapping[str, int] = field(default_factory=dict)
    """Those of bytes_loaded by the kernel's buffers."""
    stored: Mapping[str, int] = field(default_factory=dict)


def total(dispatches: Sequence[Dispatched]) -> Counts:
    """Of all of them, with all their parts."""
    return sum((d.counts * d.parts for d in dispatches), Counts())


def run_plan(
    plan: _ext.Plan,
    inputs: Mapping[int, Array],
    outputs: Sequence[Array],
    *,
    weights: range = range(0),
    wanted: Callable[[str], bool] = lambda function: True,
    counted: bool = True,
) -> list[Dispatched]:
    """Run those dispatches of a plan whose functions are ``wanted``.

    Args:
        inputs: the op's, by number; those that no wanted dispatch reads may be missing.
        weights: which of them are codes, scales and biases, in this order.
        counted: else the run is ten times as fast, and of the counts only those of barriers and operations are right.
    """
    arrays: dict[object, Array] = {("input", i): array for i, array in inputs.items()}
    arrays |= {("output", i): array for i, array in enumerate(outputs)}
    arrays |= {("temporary", i): np.zeros(size, np.uint8) for i, size in enumerate(plan["temporaries"])}
    done = []
    for dispatch in plan["dispatches"]:
        if not wanted(dispatch["function"]):
            continue
        kernel = _our_kernel(dispatch["source"], dispatch["function"], counted)
        operands = dict(enumerate(dispatch["buffers"]))
        bound = {i: arrays[each] if isinstance(each, tuple) else _constant(each) for i, each in operands.items()}
        result = kernel.run(
            grid=dispatch["grid"],
            threadgroup=dispatch["threadgroup"],
            buffers={i: kernel.typed(i, array) for i, array in bound.items()},
            timeout=TIMEOUT,
        )
        assert not result.reports, result.reports[0]
        number = {i: each[1] for i, each in operands.items() if isinstance(each, tuple) and each[0] == "input"}
        roles = _Roles(
            arguments={i for i, each in operands.items() if isinstance(each, bytes)},
            weights={i for i, n in number.items() if n in weights},
            codes={i for i, n in number.items() if n in weights[::3]},
        )
        done.append(_dispatched(dispatch["function"], dispatch["grid"], kernel, result, roles))
    return done


@dataclass(frozen=True)
class Launch:
    """A dispatch of a kernel that is not ours."""

    kernel: str
    source: str
    """Of a file that instantiates it and includes MLX's headers."""
    grid: sim.library.Dim
    threadgroup: sim.library.Dim
    buffers: Mapping[str, Array | np.generic]
    outputs: Sequence[str] = ("y",)
    weights: Sequence[str] = ()
    """Which buffers are codes, scales and biases, in this order."""
    constants: sim.library.Constants = field(default_factory=dict)

    def run(self, metallib: Path | None = None, *, counted: bool = True) -> Dispatched:
        """Run what Apple's compiler made of it, or without a metallib what ours makes of the source.

        Args:
            counted: as of :func:`run_plan`.
        """
        library = _apples(metallib, self.kernel) if metallib else _from_source(self.source)
        kernel = library.kernel(self.kernel, constants=self.constants, checked=counted)
        result = kernel.run(
            grid=self.grid,
            threadgroup=self.threadgroup,
            buffers=dict(self.buffers.items()),
            outputs=self.outputs,
            timeout=TIMEOUT,
        )
        index = {p.name: p.index for p in kernel.info.parameters if p.kind == "buffer"}
        roles = _Roles(
            arguments={index[name] for name, value in self.buffers.items() if isinstance(value, np.generic)},
            weights={index[name] for name in self.weights},
            codes={index[name] for name in self.weights[::3]},
        )
        return _dispatched(self.kernel, self.grid, kernel, result, roles)


def instantiation(headers: str, kernel: str, *template: object) -> str:
    """A file that instantiates a kernel in MLX's way.

    Args:
        headers: of MLX's kernels, with blanks between.
        template: the function in them, and its arguments.
    """
    words = [str(each).lower() if isinstance(each, bool) else str(each) for each in template]
    text = "".join(f'#include "mlx/backend/metal/kernels/{header}"\n' for header in headers.split())
    return f'{text}instantiate_kernel("{kernel}", {", ".join(words)})\n'


def mlx_metallib() -> Path | None:
    """MLX's kernels as Apple's compiler left them: of the installed mlx, or where the tests keep them."""
    version = importlib.metadata.version("mlx")
    cache = Path(platformdirs.user_cache_dir("deltamoe")) / f"mlx-metal-{version}"
    found = (folder / "mlx.metallib" for folder in (_MLX / "lib", cache))
    return next((path for path in found if path.exists()), None)


@dataclass(frozen=True)
class _Roles:
    """Indices of buffers."""

    arguments: set[int]
    """What the command carries itself."""
    weights: set[int]
    codes: set[int]


def _dispatched(name: str, grid: sim.library.Dim, kernel: sim.Kernel, result: sim.Result, roles: _Roles) -> Dispatched:
    c = result.counters

    def traffic(buffers: set[int]) -> list[sim.Traffic]:
        return [each for i, each in result.traffic.items() if i in buffers]

    arguments = traffic(roles.arguments)
    counts = Counts(
        bytes_loaded=c.device_bytes_loaded - sum(each.bytes_loaded for each in arguments),
        line_bytes=LINE * (c.device_lines_loaded - sum(each.lines_loaded for each in arguments)),
        weight_bytes=sum(each.bytes_loaded for each in traffic(roles.weights)),
        code_bytes=sum(each.bytes_loaded for each in traffic(roles.codes)),
        bytes_stored=c.device_bytes_stored,
        threadgroup_bytes=c.threadgroup_bytes_loaded + c.threadgroup_bytes_stored,
        barriers=c.barriers,
        matrix_ops=c.matrix_ops,
        simd_ops=c.simd_ops,
    )
    names = {p.index: p.name for p in kernel.info.parameters if p.kind == "buffer"}
    buffers = {names[i]: each for i, each in result.traffic.items() if i not in roles.arguments}
    return Dispatched(
        name,
        grid[0] * grid[1] * grid[2],
        counts,
        loaded={buffer: each.bytes_loaded for buffer, each in buffers.items() if each.bytes_loaded},
        stored={buffer: each.bytes_stored for buffer, each in buffers.items() if each.bytes_stored},
    )


def _constant(operand: bytes | None) -> Array:
    """What a command carries itself, or for an array that there is not, one in which nothing can be read."""
    return np.empty(0, np.uint8) if operand is None else np.frombuffer(operand, np.uint8)


@cache
def _our_kernel(source: str, function: str, counted: bool) -> sim.Kernel:
    """From the text that a Mac's compiler would be given."""
    library = _our_library(source, function)
    (name,) = library.kernels
    return library.kernel(name, checked=counted)


@cache
def _our_library(source: str, function: str) -> sim.Library:
    return sim.compile(_ext.metal_source(source, [function]))


@cache
def _apples(metallib: Path, kernel: str) -> sim.Library:
    return sim.load_metallib(metallib, [kernel])


@cache
def _from_source(text: str) -> sim.Library:
    return sim.compile(text, include=[_MLX / "include"])
