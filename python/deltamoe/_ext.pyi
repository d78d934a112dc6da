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
