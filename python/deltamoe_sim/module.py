"""What the front ends hand over: LLVM IR text and a description of its kernels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

POSITION_FIELDS: dict[str, int] = {
    "thread_position_in_grid": 0,
    "thread_position_in_threadgroup": 3,
    "threadgroup_position_in_grid": 6,
    "threads_per_threadgroup": 9,
    "dispatch_threads_per_threadgroup": 12,
    "threadgroups_per_grid": 15,
    "threads_per_grid": 18,
    "grid_size": 18,
    "grid_origin": 21,
    "thread_index_in_threadgroup": 24,
    "thread_index_in_simdgroup": 25,
    "simdgroup_index_in_threadgroup": 26,
    "simdgroups_per_threadgroup": 27,
    "threads_per_simdgroup": 28,
    "thread_execution_width": 28,
    "thread_index_in_quadgroup": 29,
    "quadgroup_index_in_threadgroup": 30,
    "quadgroups_per_threadgroup": 31,
    "dispatch_simdgroups_per_threadgroup": 32,
    "dispatch_quadgroups_per_threadgroup": 33,
}
"""Attribute of a kernel parameter -> first of its u32 words in the position record that a kernel's entry is given.

The first eight records hold three words (x, y, z); the rest one."""

POSITION_WORDS = 34
MAX_BUFFERS = 31
SIMD_WIDTH = 32


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel, after template instantiation."""

    kind: Literal["buffer", "threadgroup", "position"]
    name: str
    index: int = 0
    """Of the buffer or threadgroup slot; for a position, its first word (POSITION_FIELDS)."""
    dtype: str = "struct"
    """Element type of a buffer: float32, float16, bfloat16, [u]int8..64, bool, or struct for anything else. A vector
    (float4, packed_half2) counts as its element."""
    size: int = 1
    """Bytes of the pointee: a buffer given for a reference, or for a pointer to a struct, holds at least these."""
    reference: bool = False
    read_only: bool = False
    optional: bool = False
    """There only for some values of function constants: it may be left out."""


@dataclass(frozen=True)
class KernelInfo:
    """A kernel of a module."""

    name: str
    """Host name: what a launch asks for."""
    symbol: str
    """Of its entry in the IR: sim.kernel.<n>."""
    parameters: tuple[Parameter, ...]
    max_threads: int | None = None
    """[[max_total_threads_per_threadgroup]], if given."""
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class FunctionConstant:
    """A [[function_constant(index)]] of a module."""

    name: str
    symbol: str
    """Of its global variable in the IR."""
    dtype: str


@dataclass(frozen=True)
class Module:
    """Unoptimised (from source) or Apple-optimised (AIR) LLVM IR and what is known of it."""

    ir: str
    kernels: dict[str, KernelInfo]
    constants: dict[int, FunctionConstant] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    """Path prefixes of files that are not the user's (the shim): reports name the first frame outside them."""
