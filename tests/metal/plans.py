"""Runs on the simulator what a Mac runs: the plan that the extension makes, on the text that it hands to Metal.

    plan = _ext.plan_moe_router(...)                  # a dict: temporaries, dispatches
    results = simulate(plan, inputs=[logits], outputs=[indices, scores])
    assert_clean(results)

Arrays are numpy's, C-contiguous; bfloat16 is uint16 (see :func:`to_numpy`). Outputs are written in place; what no
dispatch writes of them stays all ones (NaN in any float).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np

import deltamoe_sim as sim
from deltamoe import _ext, ops
from tests.arrays import list_arrays

Plan = dict[str, Any]


def simulate(
    plan: Plan,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    *,
    donated: Mapping[int, int] | None = None,
    checked: bool = True,
    seed: int = 0,
    timeout: float = 60.0,
) -> list[sim.Result]:
    """Run a plan and return what each dispatch found and counted; ``checked`` looks at every access (slow).

    Of what is unwritten, only the plan's outputs are named, at the last dispatch that has them. ``donated`` says which
    input's memory an output takes, as MLX does where nobody else holds the input.
    """
    donated = donated or {}
    arrays = {f"input {i}": array for i, array in enumerate(inputs)}
    arrays |= {f"output {i}": array for i, array in enumerate(outputs)}
    for taker, giver in donated.items():
        outputs[taker][...] = inputs[giver]
        arrays[f"input {giver}"] = outputs[taker]
    results = sim.run_plan(
        as_sim(plan),
        {library_key(d): library(d["source"], d["function"]) for d in plan["dispatches"]},
        arrays,
        outputs={f"output {i}" for i in range(len(outputs)) if i not in donated},
        checked=checked,
        seed=seed,
        timeout=timeout,
    )
    last = {each: d for d, dispatch in enumerate(plan["dispatches"]) for each in dispatch["buffers"]}
    for d, (dispatch, result) in enumerate(zip(plan["dispatches"], results, strict=True)):
        kernel = library(dispatch["source"], dispatch["function"]).kernels[dispatch["kernel"]]
        bound = {p.name: dispatch["buffers"][p.index] for p in kernel.parameters if p.kind == "buffer"}
        final = {name for name, each in bound.items() if each and each[0] == "output" and last[each] == d}
        unwritten = {name: size for name, size in result.unwritten.items() if name in final}
        results[d] = dataclasses.replace(result, unwritten=unwritten)
    return results


def assert_clean(results: Sequence[sim.Result]) -> None:
    """Nothing was reported, and every byte of every output was written (both in checked mode only)."""
    for result in results:
        assert not result.reports, "\n".join(map(str, result.reports))
        assert not result.unwritten, result.unwritten


class SimulatedMetal:
    """A back end (``tests.backends.Backend``): the plan that the op's primitive has for Metal, run on the simulator."""

    name = "metal"

    def __init__(
        self,
        *,
        checked: bool = True,
        seed: int = 0,
        chunk: int | None = None,
        donated: Mapping[int, int] | None = None,
    ) -> None:
        """``chunk`` is that of ``_ext.metal_plan``; the rest is as for :func:`simulate`."""
        self.chunk = chunk
        self.settings: dict[str, Any] = {"checked": checked, "seed": seed, "donated": donated}
        self.results: list[sim.Result] = []
        """Of the last run, by dispatch."""

    def run(self, op: str, **arguments: Any) -> tuple[mx.array, ...]:
        """The op's results, evaluated."""
        mx.eval(list_arrays(arguments))
        results = getattr(ops, op)(**arguments, stream=mx.cpu)
        first = results[0] if isinstance(results, tuple) else results
        plan, inputs, outputs = _ext.metal_plan(first, chunk=self.chunk)
        assert plan is not None, f"Metal has no kernel for this {op}"
        arrays = [empty(output.shape, output.dtype) for output in outputs]
        self.results = simulate(plan, list(map(to_numpy, inputs)), arrays, **self.settings)
        assert_clean(self.results)
        return tuple(to_mlx(array, output.dtype) for array, output in zip(arrays, outputs, strict=True))


def as_sim(plan: Plan) -> sim.Plan:
    """A plan of the extension as the simulator takes it: one library per function, as the encoder does."""
    dispatches = tuple(
        sim.Dispatch(
            source=library_key(d),
            kernel=d["kernel"],
            grid=d["grid"],
            threadgroup=d["threadgroup"],
            buffers={i: operand(each) for i, each in enumerate(d["buffers"])},
        )
        for d in plan["dispatches"]
    )
    return sim.Plan(dispatches, {f"temporary {i}": size for i, size in enumerate(plan["temporaries"])})


@cache
def library(source: str, function: str) -> sim.Library:
    """The compiled text that Metal would be given for one function."""
    return sim.compile(_ext.metal_source(source, [function]))


def library_key(dispatch: Plan) -> str:
    """The name of a dispatch's library."""
    return f"{dispatch['source']}: {dispatch['function']}"


def operand(value: tuple[str, int] | bytes | None) -> str | np.ndarray:
    """What is bound to a buffer index: the name of an array, or bytes; none for an array that is missing."""
    if value is None:
        return np.empty(0, np.uint8)
    return np.frombuffer(value, np.uint8) if isinstance(value, bytes) else f"{value[0]} {value[1]}"


def to_numpy(array: mx.array) -> np.ndarray:
    """A contiguous copy; bfloat16 as its bits."""
    return np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)


def to_mlx(array: np.ndarray, dtype: mx.Dtype) -> mx.array:
    """The reverse of :func:`to_numpy`."""
    return mx.array(array).view(mx.bfloat16) if dtype == mx.bfloat16 else mx.array(array, dtype=dtype)


def empty(shape: Sequence[int], dtype: mx.Dtype) -> np.ndarray:
    """An array for an output of a plan."""
    stored = np.uint16 if dtype == mx.bfloat16 else np.dtype(str(dtype).removeprefix("mlx.core."))
    return np.empty(tuple(shape), stored)
