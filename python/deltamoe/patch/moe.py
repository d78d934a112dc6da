"""Stand-ins for the feed-forward blocks: the sparse mixture of experts and the dense SwiGLU MLP."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.qwen3_next import Qwen3NextMLP, Qwen3NextSparseMoeBlock
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwiGLU, SwitchGLU

from deltamoe import ops
from deltamoe.ops import Quantized
from deltamoe.patch.report import record
from deltamoe.patch.stand_in import Accepts, Linear, NotCovered, See, StandIn, Uncovered, matrix, require, width

__all__ = ["STAND_INS", "DenseMlp", "SparseMoe"]

Glu = tuple[Quantized, Quantized, Quantized]


def _glu(see: See, module: nn.Module, kind: type) -> Glu:
    """gate, up and down of a SwiGLU whose projections are of type ``kind``; else NotCovered."""
    operands, formats = [], []
    for name in ("gate_proj", "up_proj", "down_proj"):
        child = see(module, name)
        try:
            operands.append(matrix(see, child, kind))
            require(see(child, "bias") is None, "additive bias")
            require(see(child, "global_scale") is None, "global scale")
        except NotCovered as why:
            raise NotCovered(f"{name}: {why}") from None
        formats.append((child.bits, child.group_size))
    require(formats[0] == formats[1], "gate_proj and up_proj are quantised differently")
    gate, up, down = operands
    return gate, up, down


def _shared(see: See, expert: nn.Module, gate: nn.Module) -> tuple[Glu, Quantized]:
    """The operands of a shared expert and of its gate; else NotCovered."""
    require(type(expert) is Qwen3NextMLP, f"{type(expert).__name__} is not Qwen3NextMLP")
    glu = _glu(see, expert, nn.QuantizedLinear)
    try:
        operand = matrix(see, gate, nn.QuantizedLinear)
        require(see(gate, "bias") is None, "additive bias")
    except NotCovered as why:
        raise NotCovered(f"shared_expert_gate: {why}") from None
    return glu, operand


class SparseMoe(StandIn):
    """``Qwen3NextSparseMoeBlock``: router, experts and shared expert by ``moe_router`` and ``moe_experts``."""

    def __init__(self, module: Qwen3NextSparseMoeBlock, see: See) -> None:
        require(see(module, "sharding_group") is None, "sharded")
        require(not see(module, "_training"), "training mode")
        self._top_k = see(module, "top_k")
        self._normalize = see(module, "norm_topk_prob")
        self._gate = Linear(see, module, "gate")

        switch = see(module, "switch_mlp")
        require(type(switch) is SwitchGLU, f"switch_mlp: {type(switch).__name__} is not SwitchGLU")
        activation = see(switch, "activation")
        require(type(activation) is SwiGLU, f"switch_mlp.activation: {type(activation).__name__} is not SwiGLU")
        try:
            self._experts = _glu(see, switch, QuantizedSwitchLinear)
        except NotCovered as why:
            raise NotCovered(f"switch_mlp.{why}") from None
        operands = list(self._experts)

        self._shared_own, self._shared_gate_own = see(module, "shared_expert"), see(module, "shared_expert_gate")
        self._shared: Glu | None = None
        self._shared_gate: Quantized | None = None
        try:
            self._shared, self._shared_gate = _shared(see, self._shared_own, self._shared_gate_own)
        except NotCovered as why:  # then it is added as mlx-lm does
            self._apart = Uncovered(f"{type(module).__name__}.shared_expert", str(why))
            see.uncovered.append(self._apart)
        else:
            operands += [*self._shared, self._shared_gate]
        self._accepts = Accepts.by(*operands, width=width(switch.gate_proj))

    def __call__(self, x: mx.array) -> mx.array:
        self._accepts.check(x)
        indices, scores = ops.moe_router(self._gate(x), self._top_k, self._normalize)
        y = ops.moe_experts(x, indices, scores, *self._experts, self._shared, self._shared_gate)
        if self._shared is None:
            record(*self._apart)
            y = y + mx.sigmoid(self._shared_gate_own(x)) * self._shared_own(x)
        return y


class DenseMlp(StandIn):
    """``Qwen3NextMLP``: ``moe_experts`` with one expert, which every token takes with score 1."""

    def __init__(self, module: Qwen3NextMLP, see: See) -> None:
        require(not see(module, "_training"), "training mode")
        glu = _glu(see, module, nn.QuantizedLinear)
        self._accepts = Accepts.by(*glu, width=width(module.gate_proj))
        gate, up, down = (Quantized(*(array[None] for array in operand)) for operand in glu)
        self._experts: Glu = gate, up, down

    def __call__(self, x: mx.array) -> mx.array:
        self._accepts.check(x)
        shape = (*x.shape[:-1], 1)
        return ops.moe_experts(x, mx.zeros(shape, mx.uint32), mx.ones(shape), *self._experts)


STAND_INS: dict[Any, type[StandIn]] = {Qwen3NextSparseMoeBlock: SparseMoe, Qwen3NextMLP: DenseMlp}
