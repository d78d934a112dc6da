from typing import TypedDict

import mlx.core as mx

from deltamoe.ops import Quantized, StreamLike

class CpuFeatures(TypedDict):
    isa: str
    available: list[str]
    threads: int

built_for_mlx: str

def cpu_features() -> CpuFeatures: ...
def use_isa(name: str) -> None: ...
def set_threads(n: int) -> None: ...
def qlinear(x: mx.array, w: Quantized, *, stream: StreamLike = None) -> mx.array: ...
def moe_router(
    logits: mx.array, k: int, normalize: bool = True, *, stream: StreamLike = None
) -> tuple[mx.array, mx.array]: ...
def moe_experts(
    x: mx.array,
    indices: mx.array,
    scores: mx.array,
    gate: Quantized,
    up: Quantized,
    down: Quantized,
    shared: tuple[Quantized, Quantized, Quantized] | None = None,
    shared_gate: Quantized | None = None,
    *,
    stream: StreamLike = None,
) -> mx.array: ...
def gated_delta(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    a: mx.array,
    b: mx.array,
    A_log: mx.array,
    dt_bias: mx.array,
    state: mx.array | None = None,
    mask: mx.array | None = None,
    lengths: mx.array | None = None,
    *,
    allow_neg_eigval: bool = False,
    stream: StreamLike = None,
) -> tuple[mx.array, mx.array]: ...
def gated_delta_block(
    qkv: mx.array,
    z: mx.array,
    a: mx.array,
    b: mx.array,
    conv_weight: mx.array,
    A_log: mx.array,
    dt_bias: mx.array,
    norm_weight: mx.array,
    conv_state: mx.array | None = None,
    state: mx.array | None = None,
    mask: mx.array | None = None,
    lengths: mx.array | None = None,
    *,
    num_k_heads: int,
    norm_eps: float = 1e-6,
    stream: StreamLike = None,
) -> tuple[mx.array, mx.array, mx.array]: ...
def rms_norm(x: mx.array, weight: mx.array | None, eps: float, *, stream: StreamLike = None) -> mx.array: ...
def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    scale: float,
    gate: mx.array | None = None,
    *,
    causal: bool = True,
    stream: StreamLike = None,
) -> mx.array: ...
