"""Runs small modules of IR on one lane, with a recorder in place of the executor."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from deltamoe_sim import _executor, jit
from deltamoe_sim.module import FunctionConstant, KernelInfo, Module

POINTER, SIZE, WORD, FLOAT, DOUBLE = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_float, ctypes.c_double


class Recorder:
    """Stands in for the executor: records what compiled code calls, and lets it do all it asks for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.steps, self.flops = SIZE(0), SIZE(0)
        self.symbols = {"sim.steps": ctypes.addressof(self.steps), "sim.flops": ctypes.addressof(self.flops)}
        # conversions of 16-bit floats, which compiled code calls where the processor has no instruction for them
        self.symbols |= {name: address for name, address in _executor.symbols().items() if name.startswith("__")}
        self._kept: list[Any] = []
        self.provide("sim.load", POINTER, POINTER, WORD, WORD, WORD, returns=lambda p, *_: p)
        self.provide("sim.store", POINTER, POINTER, WORD, WORD, WORD, returns=lambda p, *_: p)
        self.provide("sim.store_range", POINTER, POINTER, SIZE, WORD, returns=lambda p, *_: p)
        self.provide(
            "sim.copy", None, POINTER, POINTER, SIZE, WORD, returns=lambda to, by, n, _: ctypes.memmove(to, by, n)
        )
        self.provide("sim.private", None, POINTER, SIZE, WORD)
        self.provide("sim.argument", None, POINTER, SIZE, WORD)
        self.provide("sim.divisor", SIZE, SIZE, WORD, returns=lambda d, _: d or 1)

    def provide(self, name: str, result: Any, *parameters: Any, returns: Callable[..., Any] = lambda *_: 0) -> None:
        """Adds a function that compiled code may call."""

        def function(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            value = returns(*arguments)
            return None if result is None else value

        self._kept.append(ctypes.CFUNCTYPE(result, *parameters)(function))
        self.symbols[name] = ctypes.cast(self._kept[-1], POINTER).value or 0

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """Arguments of the calls of one function."""
        return [tuple(arguments) for called, *arguments in self.calls if called == name]


def module(text: str, parameters: int = 1, constants: Mapping[int, FunctionConstant] | None = None) -> Module:
    """A module around IR that defines `@k(ptr, ...)`, which is given the buffers."""
    loads = "".join(
        f"  %s{i} = getelementptr ptr, ptr %buffers, i64 {i}\n  %v{i} = load ptr, ptr %s{i}\n"
        for i in range(parameters)
    )
    arguments = ", ".join(f"ptr %v{i}" for i in range(parameters))
    entry = f"{{\n{loads}  call void @k({arguments})\n  ret void\n}}"
    text = f"{text}\ndefine void @sim.kernel.0(ptr %buffers, ptr %t, ptr %p) {entry}\n"
    return Module(text, {"k": KernelInfo("k", "sim.kernel.0", ())}, dict(constants or {}))


def run(
    text: str,
    *buffers: np.ndarray,
    recorder: Recorder | None = None,
    checked: bool = False,
    constants: Mapping[int, FunctionConstant] | None = None,
    values: Mapping[int, Any] | None = None,
) -> jit.Executable:
    """Compiles IR that defines `@k` and calls it."""
    recorder = recorder or Recorder()
    executable = jit.build(module(text, len(buffers), constants), "k", values or {}, checked, recorder.symbols)
    addresses = (POINTER * len(buffers))(*[buffer.ctypes.data for buffer in buffers])
    ctypes.CFUNCTYPE(None, POINTER, POINTER, POINTER)(executable.entry)(addresses, None, None)
    return executable


def zeros(dtype: Any, count: int = 1) -> np.ndarray:
    return np.zeros(count, dtype)


BOTH_MODES = pytest.mark.parametrize("checked", [False, True], ids=["fast", "checked"])
