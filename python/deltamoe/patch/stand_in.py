"""What a stand-in for an mlx-lm module is made of.

A :class:`StandIn` is built from one module and then called in its place. Building it decides, once, what the kernels
cover; whatever it read is remembered (:class:`See`), so that it is built anew when a weight, a child or a setting of
the module is replaced.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from deltamoe import ops
from deltamoe.ops import Quantized
from deltamoe.patch.report import record

__all__ = [
    "Accepts",
    "Evidence",
    "Linear",
    "Norm",
    "NotCovered",
    "Part",
    "See",
    "StandIn",
    "TiedLinear",
    "Uncovered",
    "matrix",
    "require",
    "width",
]

FLOATS = (mx.float32, mx.float16, mx.bfloat16)
BITS = (4, 8)
GROUP_SIZES = (32, 64, 128)


class NotCovered(Exception):
    """Why mlx-lm's own code must run. A stand-in raises it before it has changed anything, a cache included."""


def require(covered: bool, otherwise: str) -> None:
    """Raise :class:`NotCovered` with ``otherwise`` unless ``covered``."""
    if not covered:
        raise NotCovered(otherwise)


class Uncovered(NamedTuple):
    """A part of a covered module that runs mlx-lm's code, and why."""

    part: str
    reason: str


class See:
    """Reads a module's arrays, children and settings, and remembers each one read."""

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._of_root: list[tuple[str, Any]] = []
        self._of_others: list[tuple[Callable[[str], Any], str, Any]] = []
        self.uncovered: list[Uncovered] = []

    def __call__(self, module: nn.Module, name: str) -> Any:
        """The value of ``module.name``, or None if there is none."""
        value = module.get(name)
        if module is self._root:
            self._of_root.append((name, value))
        else:
            self._of_others.append((module.get, name, value))
        if value is None:  # nn.Module keeps arrays and modules as items, everything else as attributes
            value = vars(module).get(name)
            self._of_others.append((vars(module).get, name, value))
        return value

    def evidence(self) -> Evidence:
        return Evidence(tuple(self._of_root), tuple(self._of_others))


class Evidence(NamedTuple):
    """What a decision about a module rests on: the values of its items, and of its attributes and what is below it.

    It does not hold the module itself: to have been looked at must not keep a model's weights alive.
    """

    of_root: tuple[tuple[str, Any], ...]
    of_others: tuple[tuple[Callable[[str], Any], str, Any], ...]

    def holds(self, root: nn.Module) -> bool:
        """Whether every value is still the same object."""
        get_own = root.get
        for name, value in self.of_root:  # plain loops: they run at every call of every module
            if get_own(name) is not value:
                return False
        for get, name, value in self.of_others:  # noqa: SIM110
            if get(name) is not value:
                return False
        return True


class StandIn(ABC):
    """Runs in the place of one module: called with the same arguments, it returns the same result.

    Built from the module, which it must not hold (its children it may). Both building and calling raise
    :class:`NotCovered` where the module's own code is to run.
    """

    @abstractmethod
    def __init__(self, module: Any, see: See) -> None: ...

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> mx.array: ...


class Accepts(NamedTuple):
    """The activations that an op may take: MLX would not promote them, and they are as wide as the weights.

    The ops tell bits from shapes, so only here can activations of half the width be told from 8-bit weights.
    """

    dtypes: frozenset[mx.Dtype]
    width: int | None = None

    @classmethod
    def by(cls, *operands: Quantized | mx.array, width: int | None = None) -> Accepts:
        """What weights of these dtypes accept."""
        arrays = [a for operand in operands for a in (operand[1:] if isinstance(operand, Quantized) else (operand,))]
        return cls(frozenset(d for d in FLOATS if all(mx.result_type(d, a.dtype) == d for a in arrays)), width)

    def refusal(self, x: mx.array) -> str | None:
        """Why not ``x``, or None."""
        if x.dtype not in self.dtypes:
            return f"activations are {str(x.dtype).removeprefix('mlx.core.')}, which the weights' dtype promotes"
        if self.width is not None and x.shape[-1] != self.width:
            return f"activations are {x.shape[-1]} wide, the weights {self.width}"
        return None

    def check(self, x: mx.array) -> None:
        """Raise :class:`NotCovered` if ``x`` is refused."""
        if (reason := self.refusal(x)) is not None:
            raise NotCovered(reason)


def matrix(see: See, module: Any, kind: type) -> Quantized:
    """The operand of a quantised ``module``, which must be exactly of type ``kind``; else NotCovered."""
    require(type(module) is kind, f"{type(module).__name__} is not {kind.__name__}")
    require(module.mode == "affine", f"quantisation mode {module.mode}")
    require(module.bits in BITS, f"{module.bits}-bit weights")
    require(module.group_size in GROUP_SIZES, f"group size {module.group_size}")
    operand = Quantized(see(module, "weight"), see(module, "scales"), see(module, "biases"))
    require(operand.biases is not None, "no quantisation biases")
    require(operand.biases.dtype == operand.scales.dtype, "scales and biases of several dtypes")
    return operand


def width(module: Any) -> int:
    """The input width of a quantised module."""
    return module.weight.shape[-1] * 32 // module.bits


class Part(ABC):
    """A child for which an op stands in where it can; else the child itself is called, so that LoRA layers, hooks,
    sharded layers and other quantisations keep working."""

    def __init__(self, see: See, parent: nn.Module, name: str) -> None:
        self.child = see(parent, name)
        self._name = f"{type(parent).__name__}.{name}"
        self._uncovered: str | None = None
        try:
            self._accepts = self.cover(see)
        except NotCovered as why:
            self._uncovered = str(why)
            see.uncovered.append(Uncovered(self._name, self._uncovered))

    def __call__(self, x: mx.array) -> mx.array:
        reason = self._uncovered or self._accepts.refusal(x)
        if reason is None:
            return self.op(x)
        record(self._name, reason)
        return self.own(x)

    @abstractmethod
    def cover(self, see: See) -> Accepts:
        """Prepare the op for ``self.child``, or raise :class:`NotCovered`."""

    @abstractmethod
    def op(self, x: mx.array) -> mx.array: ...

    def own(self, x: mx.array) -> mx.array:
        return self.child(x)


class Linear(Part):
    """A quantised matrix, by ``ops.qlinear``."""

    kind: type = nn.QuantizedLinear

    def cover(self, see: See) -> Accepts:
        self._matrix = matrix(see, self.child, self.kind)
        self._bias = see(self.child, "bias")
        return Accepts.by(self._matrix, width=width(self.child))

    def op(self, x: mx.array) -> mx.array:
        y = ops.qlinear(x, self._matrix)
        return y if self._bias is None else y + self._bias


class TiedLinear(Linear):
    """An embedding as the output projection."""

    kind = nn.QuantizedEmbedding

    def own(self, x: mx.array) -> mx.array:
        return self.child.as_linear(x)


class Norm(Part):
    """An ``nn.RMSNorm``, by ``ops.rms_norm``."""

    def cover(self, see: See) -> Accepts:
        require(type(self.child) is nn.RMSNorm, f"{type(self.child).__name__} is not RMSNorm")
        self._weight, self._eps = see(self.child, "weight"), see(self.child, "eps")
        return Accepts.by(self._weight, width=self._weight.shape[0])

    def op(self, x: mx.array) -> mx.array:
        return ops.rms_norm(x, self._weight, self._eps)
