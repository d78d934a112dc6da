"""The ops' signatures and documentation are those of ``deltamoe.ops``, which calls nothing else here."""

from collections.abc import Callable
from typing import TypedDict

import mlx.core as mx

class CpuFeatures(TypedDict):
    isa: str
    available: list[str]
    threads: int

built_for_mlx: str

def cpu_features() -> CpuFeatures: ...
def use_isa(name: str) -> None: ...
def set_threads(n: int) -> None: ...

qlinear: Callable[..., mx.array]
moe_router: Callable[..., tuple[mx.array, mx.array]]
moe_experts: Callable[..., mx.array]
gated_delta: Callable[..., tuple[mx.array, mx.array]]
gated_delta_block: Callable[..., tuple[mx.array, mx.array, mx.array]]
rms_norm: Callable[..., mx.array]
attention: Callable[..., mx.array]

# For tests and tools: plans of Metal dispatches, and the text that Metal's compiler is given.
Operand = tuple[str, int] | bytes  # ("input" | "output" | "temporary", index), or bytes copied into the command

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

# Of an op's unevaluated result, made for the CPU: what a Mac would run for it, the op's inputs, all its results.
def metal_plan(result: mx.array, family: int = 0) -> tuple[Plan | None, list[mx.array], list[mx.array]]: ...
def metal_sources() -> list[str]: ...
def metal_source(source: str, functions: list[str]) -> str: ...
