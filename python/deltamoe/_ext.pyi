"""The ops' signatures and documentation are those of ``deltamoe.ops``, which calls nothing else here."""

from collections.abc import Callable
from typing import TypedDict

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

class CpuFeatures(TypedDict):
    isa: str
    available: list[str]
    threads: int

built_for_mlx: str

def cpu_features() -> CpuFeatures: ...
def use_isa(name: str) -> None: ...
def set_threads(n: int) -> None: ...

# Work at the limits of the machine, for deltamoe.measure.limits, which takes the time. In floating-point operations
# done, 0 where there is no such code; the sum of all words.
def multiply_f32(tasks: int) -> float: ...
def multiply_bf16(tasks: int) -> float: ...
def read_all(words: NDArray[np.uint64]) -> int: ...

qlinear: Callable[..., mx.array]
moe_router: Callable[..., tuple[mx.array, mx.array]]
moe_experts: Callable[..., mx.array]
gated_delta: Callable[..., tuple[mx.array, mx.array]]
gated_delta_block: Callable[..., tuple[mx.array, mx.array, mx.array]]
rms_norm: Callable[..., mx.array]
attention: Callable[..., mx.array]

# For tests and tools: plans of Metal dispatches, and the text that Metal's compiler is given.
# ("input" | "output" | "temporary", index), bytes copied into the command, or None for an array that is not there
Operand = tuple[str, int] | bytes | None

class Dispatch(TypedDict):
    source: str
    function: str
    kernel: str
    grid: tuple[int, int, int]  # threadgroups
    threadgroup: tuple[int, int, int]
    buffers: list[Operand]

class Plan(TypedDict):
    temporaries: list[int]  # bytes
    dispatches: list[Dispatch]

GroupBits = tuple[int, int]

def plan_moe_router(
    *, tokens: int, experts: int, k: int, dtype: str, normalize: bool = True, family: int = 0
) -> Plan | None: ...
def plan_moe_experts(
    *,
    tokens: int,
    hidden: int,
    intermediate: int,
    experts: int,
    k: int,
    dtype: str,
    gate_up: GroupBits,
    down: GroupBits,
    shared_intermediate: int = 0,
    shared: tuple[GroupBits, GroupBits] | None = None,  # gate and up, down
    shared_gate: GroupBits | None = None,
    family: int = 0,
) -> Plan | None: ...
def plan_gated_delta(
    *,
    batch: int,
    tokens: int,
    k_heads: int,
    v_heads: int,
    dk: int,
    dv: int,
    dtype: str,
    gates: str | None = None,  # dtypes, where they are not `dtype`
    A_log: str | None = None,
    dt_bias: str | None = None,
    conv: str | None = None,
    norm: str | None = None,
    taps: int = 0,  # with more the plan is gated_delta_block's
    state: bool = False,
    conv_state: bool = False,
    mask: bool = False,
    lengths: bool = False,
    allow_neg_eigval: bool = False,
    channel_gate: bool = False,
    snapshots: int = 0,
    norm_eps: float = 1e-6,
    family: int = 0,
    chunk: int | None = None,
) -> Plan | None: ...

# Of an op's unevaluated result, made for the CPU: what a Mac would run for it, the op's inputs, all its results.
# `chunk` is for the gated delta rule: tokens of a chunk (16, 32 or 64), or 0 for token by token, in place of the plan's
# own choice.
def metal_plan(
    result: mx.array, family: int = 0, chunk: int | None = None
) -> tuple[Plan | None, list[mx.array], list[mx.array]]: ...
def metal_sources() -> list[str]: ...
def metal_source(source: str, functions: list[str]) -> str: ...
