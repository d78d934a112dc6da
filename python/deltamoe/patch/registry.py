"""Puts stand-ins in the place of mlx-lm's modules, and takes them out again.

``__call__`` of each class that has a stand-in is replaced by a dispatcher, which asks at every call whether the
stand-in may run and otherwise calls mlx-lm's own function.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
from packaging.specifiers import SpecifierSet

from deltamoe.patch import report
from deltamoe.patch.stand_in import Evidence, NotCovered, See, StandIn, Uncovered

__all__ = ["EVERYTHING", "Scope", "current_scope", "inspect_model", "set_scope", "unavailable", "why_not_here"]

SUPPORTED_MLX_LM = SpecifierSet(">=0.32.2,<0.33")
FAMILIES = ("moe", "delta_net", "attention", "dense")


class Scope:
    """The modules that a patch is for: those of some models, or (with ``modules`` None) all."""

    def __init__(self, modules: Mapping[int, weakref.ref[nn.Module]] | None) -> None:
        self._modules = modules

    @classmethod
    def of(cls, model: nn.Module) -> Scope:
        return cls({id(module): weakref.ref(module) for module in _modules(model)})

    def __contains__(self, module: nn.Module) -> bool:
        if self._modules is None:
            return True
        found = self._modules.get(id(module))
        return found is not None and found() is module

    def __or__(self, other: Scope) -> Scope:
        if self._modules is None or other._modules is None:
            return EVERYTHING
        return Scope({**self._modules, **other._modules})


EVERYTHING = Scope(None)


class Decision(NamedTuple):
    """The stand-in of a module, or why it has none; and what that rests on."""

    module: weakref.ref[nn.Module]
    evidence: Evidence
    stand_in: StandIn | str
    uncovered: list[Uncovered]


_scope: Scope | None = None
_dispatchers: dict[type, tuple[Callable[..., Any], Callable[..., Any]]] = {}  # class -> mlx-lm's function, ours
_decisions: dict[int, Decision] = {}


def current_scope() -> Scope | None:
    """What is patched now; None if nothing is."""
    return _scope


def set_scope(scope: Scope | None) -> None:
    """Patch the modules in ``scope`` and no others; None restores mlx-lm."""
    global _scope
    if _scope is None and scope is not None:
        report.forget()
        _install()
    elif _scope is not None and scope is None:
        _uninstall()
    _scope = scope
    _decisions.clear()


def unavailable() -> str | None:
    """Why this mlx-lm cannot be patched, or None."""
    try:
        version = metadata.version("mlx-lm")
    except metadata.PackageNotFoundError:
        return "mlx-lm is not installed"
    if not SUPPORTED_MLX_LM.contains(version, prereleases=True):
        return f"mlx-lm {version} is not a version that deltamoe knows ({SUPPORTED_MLX_LM})"
    return None


def why_not_here() -> str | None:
    """Why nothing of ours may run just now, whatever the module; or None."""
    if _scope is None:
        return "not patched"
    if mx.default_device() != mx.cpu:
        return "deltamoe has kernels for the CPU only so far"
    return None


def inspect_model(model: nn.Module) -> tuple[report.Row, ...]:
    """How many modules of ``model`` run what, as far as it can be told without running them."""
    everywhere = why_not_here()
    stand_ins = _stand_ins() if unavailable() is None else {}
    counts: Counter[tuple[str, str | None]] = Counter()
    for module in _modules(model):
        kind = type(module)
        if kind not in stand_ins:
            continue
        if everywhere is not None or kind not in _dispatchers:
            counts[kind.__name__, everywhere or "its __call__ had been replaced by other code"] += 1
            continue
        decision = _decide(module, kind)
        counts[kind.__name__, decision.stand_in if isinstance(decision.stand_in, str) else None] += 1
        for part, reason in decision.uncovered:
            counts[part, reason] += 1
    return report.tally(counts)


def _modules(model: nn.Module) -> list[nn.Module]:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"the model is a {type(model).__name__}, not an mlx.nn.Module. "
            "Give the first of the two things that mlx_lm.load returns."
        )
    return model.modules()


@functools.cache
def _stand_ins() -> dict[type, type[StandIn]]:
    """The stand-in of each class. Imports mlx-lm's models."""
    return {
        target: stand_in
        for family in FAMILIES
        for target, stand_in in import_module(f"deltamoe.patch.{family}").STAND_INS.items()
    }


def _install() -> None:
    for target in _stand_ins():
        own = target.__dict__["__call__"]
        if not (inspect.isfunction(own) and own.__code__.co_filename == inspect.getfile(target)):
            continue  # somebody else has replaced it: theirs to keep
        ours = _dispatcher(target, own)
        _dispatchers[target] = own, ours
        target.__call__ = ours  # type: ignore[method-assign]


def _uninstall() -> None:
    for target, (own, ours) in _dispatchers.items():
        if target.__dict__["__call__"] is ours:  # else somebody wrapped it, and it passes calls on from now on
            target.__call__ = own  # type: ignore[method-assign]
    _dispatchers.clear()


def _dispatcher(target: type, own: Callable[..., Any]) -> Callable[..., Any]:
    name = target.__name__

    @functools.wraps(own)
    def dispatch(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if why_not_here() is not None:
            return own(self, *args, **kwargs)
        stand_in = _decide(self, target).stand_in
        if isinstance(stand_in, str):
            report.record(name, stand_in)
            return own(self, *args, **kwargs)
        try:
            result = stand_in(*args, **kwargs)
        except NotCovered as why:
            report.record(name, str(why))
        else:
            report.record(name)
            return result
        return own(self, *args, **kwargs)

    return dispatch


def _decide(module: nn.Module, target: type) -> Decision:
    """What runs for ``module``, decided anew when something that it rests on has changed."""
    known = _decisions.get(id(module))
    if known is not None and known.module() is module and known.evidence.holds(module):
        return known
    see = See(module)
    stand_in: StandIn | str
    try:
        stand_in = _build(module, target, see)
    except NotCovered as why:
        stand_in = str(why)
        see.uncovered.clear()
    key = id(module)
    decision = Decision(
        weakref.ref(module, lambda _: _decisions.pop(key, None)), see.evidence(), stand_in, see.uncovered
    )
    _decisions[key] = decision
    return decision


def _build(module: nn.Module, target: type, see: See) -> StandIn:
    if type(module) is not target:
        raise NotCovered(f"{type(module).__name__} is a subclass")
    if _scope is not None and module not in _scope:
        raise NotCovered("not in the model given to patch()")
    return _stand_ins()[target](module, see)
