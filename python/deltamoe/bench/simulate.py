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
    """From device memory, by all lanes."""
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


def total(dispatches: Sequence[Dispatched]) -> Counts:
    """Of all of them, with all their parts."""
    return sum((d.counts * d.parts for d in dispatches), Counts())


def run_plan(
    plan: _ext.Plan,
    inputs: Mapping[int, Array],
    outputs: Sequence[Array],
    *,
    weights: range,
    wanted: Callable[[str], bool] = lambda function: True,
) -> list[Dispatched]:
    """Run those dispatches of a plan whose functions are ``wanted``.

    Args:
        inputs: the op's, by number; those that no wanted dispatch reads may be missing.
        weights: which of them are codes, scales and biases, in this order.
    """
    arrays: dict[object, Array] = {("input", i): array for i, array in inputs.items()}
    arrays |= {("output", i): array for i, array in enumerate(outputs)}
    arrays |= {("temporary", i): np.zeros(size, np.uint8) for i, size in enumerate(plan["temporaries"])}
    done = []
    for dispatch in plan["dispatches"]:
        if not wanted(dispatch["function"]):
            continue
        kernel = _our_kernel(dispatch["source"], dispatch["function"])
        operands = dict(enumerate(dispatch["buffers"]))
        result = kernel.run(
            grid=dispatch["grid"],
            threadgroup=dispatch["threadgroup"],
            buffers={
                i: kernel.typed(i, np.frombuffer(each, np.uint8) if isinstance(each, bytes) else arrays[each])
                for i, each in operands.items()
            },
            timeout=TIMEOUT,
        )
        assert not result.reports, result.reports[0]
        number = {i: each[1] for i, each in operands.items() if each[0] == "input"}
        weight_buffers = {i for i, n in number.items() if n in weights}
        code_buffers = {i for i, n in number.items() if n in weights[::3]}
        done.append(_dispatched(dispatch["function"], dispatch["grid"], result, weight_buffers, code_buffers))
    return done


@dataclass(frozen=True)
class Launch:
    """A dispatch of one of MLX's kernels."""

    kernel: str
    template: tuple[object, ...]
    """The function in MLX's headers, and its arguments."""
    grid: sim.library.Dim
    threadgroup: sim.library.Dim
    buffers: Mapping[str, Array | np.generic]
    constants: sim.library.Constants = field(default_factory=dict)

    def run(self, metallib: Path | None = None) -> Dispatched:
        """Run what Apple's compiler made of it, or without a metallib what ours makes of the installed headers."""
        library = _apples(metallib, self.kernel) if metallib else _from_headers(self.kernel, self.template)
        kernel = library.kernel(self.kernel, constants=self.constants)
        result = kernel.run(
            grid=self.grid,
            threadgroup=self.threadgroup,
            buffers=dict(self.buffers.items()),
            outputs=["y"],
            timeout=TIMEOUT,
        )
        index = {p.name: p.index for p in kernel.info.parameters if p.kind == "buffer"}
        weight_buffers = {index[name] for name in ("w", "scales", "biases")}
        return _dispatched(self.kernel, self.grid, result, weight_buffers, {index["w"]})


def mlx_metallib() -> Path | None:
    """MLX's kernels as Apple's compiler left them: of the installed mlx, or where the tests keep them."""
    version = importlib.metadata.version("mlx")
    cache = Path(platformdirs.user_cache_dir("deltamoe")) / f"mlx-metal-{version}"
    found = (folder / "mlx.metallib" for folder in (_MLX / "lib", cache))
    return next((path for path in found if path.exists()), None)


def _dispatched(
    kernel: str, grid: sim.library.Dim, result: sim.Result, weight_buffers: set[int], code_buffers: set[int]
) -> Dispatched:
    c = result.counters

    def loaded(buffers: set[int]) -> int:
        return sum(traffic.bytes_loaded for i, traffic in result.traffic.items() if i in buffers)

    counts = Counts(
        bytes_loaded=c.device_bytes_loaded,
        line_bytes=LINE * c.device_lines_loaded,
        weight_bytes=loaded(weight_buffers),
        code_bytes=loaded(code_buffers),
        bytes_stored=c.device_bytes_stored,
        threadgroup_bytes=c.threadgroup_bytes_loaded + c.threadgroup_bytes_stored,
        barriers=c.barriers,
        matrix_ops=c.matrix_ops,
        simd_ops=c.simd_ops,
    )
    return Dispatched(kernel, grid[0] * grid[1] * grid[2], counts)


@cache
def _our_kernel(source: str, function: str) -> sim.Kernel:
    """From the text that a Mac's compiler would be given."""
    library = sim.compile(_ext.metal_source(source, [function]))
    (name,) = library.kernels
    return library.kernel(name)


@cache
def _apples(metallib: Path, kernel: str) -> sim.Library:
    return sim.load_metallib(metallib, [kernel])


@cache
def _from_headers(kernel: str, template: tuple[object, ...]) -> sim.Library:
    folder = "mlx/backend/metal/kernels"
    headers = ("utils.h", "steel/gemm/gemm.h", "quantized_utils.h", "quantized.h")
    words = [str(each).lower() if isinstance(each, bool) else str(each) for each in template]
    text = "".join(f'#include "{folder}/{header}"\n' for header in headers)
    text += f'instantiate_kernel("{kernel}", {", ".join(words)})\n'
    return sim.compile(text, include=[_MLX / "include"])
