"""A dispatch of a kernel, what it must leave behind, and the text that instantiates an MLX kernel."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx
import mlx.core as mx
import numpy as np

import deltamoe_sim as sim
from tests.arrays import BF16, F16, F32, numpy_of, short
from tests.tolerance import assert_close, worst

INCLUDE = Path(mlx.__path__[0]) / "include"
TYPE = {F32: "float", F16: "float16_t", BF16: "bfloat16_t"}
NAME = {F32: "float32", F16: "float16", BF16: "bfloat16"}
ROUNDOFF = {F32: 2.0**-24, F16: 2.0**-11, BF16: 2.0**-8}
"""The largest relative error of rounding once."""
BITS = {F32: np.float32, F16: np.float16, BF16: np.uint16}
"""How numpy holds a dtype."""

POISON = 0xFF
"""Each byte of an output that the kernel did not write."""

Buffer = mx.array | np.ndarray | np.generic


@dataclass(frozen=True)
class Result:
    """What a kernel must leave in a buffer."""

    dtype: mx.Dtype
    want: np.ndarray
    bound: np.ndarray | None = None
    """The largest error allowed, number by number, where the kernel by its source rounds more often than the tolerance
    table of the tests allows for."""
    shape: tuple[int, ...] = ()
    """Of the buffer, if this launch fills only the beginning of each axis."""

    def buffer(self) -> np.ndarray:
        """Room for it."""
        return np.empty(self.shape or self.want.shape, BITS[self.dtype])

    def check(self, found: np.ndarray, what: str) -> None:
        """Hold a buffer that a launch has written to it."""
        written = tuple(slice(n) for n in self.want.shape)
        got = mx.array(np.ascontiguousarray(found[written])).view(self.dtype)
        if self.bound is None:
            assert_close(got, self.want, what)
        else:
            error = np.nan_to_num(np.abs(numpy_of(got) - self.want), nan=np.inf)
            at = worst(error - self.bound)
            assert error[at] <= self.bound[at], f"{what}: error {error[at]:.3g} at {at}, allowed {self.bound[at]:.3g}"
        untouched = np.ones(found.shape, bool)
        untouched[written] = False
        assert (found[untouched].view(np.uint8) == POISON).all(), f"{what}: written outside {written}"


@dataclass(frozen=True)
class Launch:
    """A dispatch of a kernel."""

    kernel: str
    """Its name in mlx.metallib."""
    grid: tuple[int, int, int]
    """Threadgroups."""
    threadgroup: tuple[int, int, int]
    buffers: Mapping[str, Buffer]
    results: Mapping[str, Result]
    source: str = ""
    """Of a file that instantiates it; empty if only mlx.metallib has it."""
    constants: Mapping[int, bool | np.generic] = field(default_factory=dict)

    def compile(self) -> sim.Library:
        """Its source."""
        return sim.compile(self.source, include=[INCLUDE])

    def run(self, library: sim.Library, *, checked: bool, seed: int = 0) -> tuple[sim.Result, dict[str, np.ndarray]]:
        """Run it and hand back what it left in each buffer of ``results``."""
        outputs = {name: result.buffer() for name, result in self.results.items()}
        buffers = {name: bits(value) for name, value in self.buffers.items()}
        result = library.kernel(self.kernel, constants=dict(self.constants.items()), checked=checked).run(
            grid=self.grid,
            threadgroup=self.threadgroup,
            buffers=dict([*buffers.items(), *outputs.items()]),
            outputs=list(outputs),
            seed=seed,
        )
        return result, outputs

    def check(self, outputs: dict[str, np.ndarray]) -> None:
        """Hold what a run left to float64."""
        for name, result in self.results.items():
            result.check(outputs[name], name)


def bits(value: Buffer) -> np.ndarray | np.generic:
    """For numpy, which does not know bfloat16."""
    if isinstance(value, mx.array):
        return np.array(value.view(mx.uint16) if value.dtype == BF16 else value)
    return value


@dataclass(frozen=True)
class Finding:
    """What the checker rightly says of a kernel."""

    kind: str
    file: str
    text: str
    """The line of source."""


@dataclass(frozen=True)
class Case:
    """A kernel, a dtype and a shape."""

    build: Callable[..., Launch]
    dtype: mx.Dtype
    options: dict[str, Any]
    findings: frozenset[Finding] = frozenset()

    def __str__(self) -> str:
        shape = [f"{name}={short(value) or value}" for name, value in self.options.items()]
        return "-".join([self.build.__name__, str(short(self.dtype)), *shape])

    @cached_property
    def launch(self) -> Launch:
        """Its launch, the same every time."""
        return self.build(np.random.default_rng(zlib.crc32(str(self).encode())), self.dtype, **self.options)


def case(build: Callable[..., Launch], dtype: mx.Dtype, *findings: Finding, **options: Any) -> Case:
    """An entry of a table."""
    return Case(build, dtype, options, frozenset(findings))


def instantiate(headers: str, kernel: str, function: str, *arguments: object, before: str = "") -> str:
    """A file that instantiates ``function`` as ``kernel`` in MLX's way; ``headers`` are names, ``before`` is text."""
    includes = "".join(f'#include "mlx/backend/metal/kernels/{header}"\n' for header in headers.split())
    words = [str(a).lower() if isinstance(a, bool) else str(a) for a in arguments]
    return f'{before}{includes}instantiate_kernel("{kernel}", {", ".join([function, *words])})\n'


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)
