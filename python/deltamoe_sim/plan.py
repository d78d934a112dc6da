"""Running a plan: the list of dispatches that an op launches, as csrc/plan makes it for Metal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from deltamoe_sim.errors import LaunchError
from deltamoe_sim.library import Array, Constants, Dim, Kernel, Library, Result

Operand = str | tuple[str, int] | np.generic | Array
"""What a plan binds to a buffer index: an array or temporary by name, one with an offset in bytes, or bytes to copy
into the command (a scalar or a small array)."""


@dataclass(frozen=True)
class Dispatch:
    """One kernel launch."""

    source: str
    """Which library has the kernel."""
    kernel: str
    grid: Dim
    """In threadgroups, unless `grid_in_threads`."""
    threadgroup: Dim
    buffers: Mapping[int, Operand]
    """By [[buffer(index)]]."""
    constants: Constants = field(default_factory=dict)
    threadgroup_memory: Mapping[int, int] = field(default_factory=dict)
    grid_in_threads: bool = False


@dataclass(frozen=True)
class Plan:
    """Dispatches in order, each seeing what those before it have written."""

    dispatches: tuple[Dispatch, ...]
    temporaries: Mapping[str, int] = field(default_factory=dict)
    """Bytes by name."""


def run_plan(
    plan: Plan,
    libraries: Mapping[str, Library],
    arrays: Mapping[str, Array],
    *,
    outputs: frozenset[str] | set[str] = frozenset(),
    checked: bool = True,
    seed: int = 0,
    timeout: float = 60.0,
) -> list[Result]:
    """Runs a plan and returns what each dispatch found and counted.

    Args:
        libraries: by Dispatch.source.
        arrays: what the plan's operands name, written in place.
        outputs: arrays that hold nothing yet, as all temporaries do: reading what no dispatch has written is reported.

    Raises:
        LaunchError: the plan names a library, kernel, array or temporary that is not there, or a launch that Metal
            would refuse. Dispatches before it have run.
        KernelFault: a kernel crashed or did not end in time.
    """
    if twice := plan.temporaries.keys() & arrays.keys():
        raise LaunchError(f"{', '.join(sorted(twice))}: both an array and a temporary of the plan")
    if unknown := set(outputs) - arrays.keys():
        raise LaunchError(f"{', '.join(sorted(unknown))}: an output that is not among the arrays")
    memory = dict(arrays) | {name: np.empty(size, np.uint8) for name, size in plan.temporaries.items()}
    written = {}
    for name in {*outputs, *plan.temporaries}:
        memory[name].reshape(-1).view(np.uint8)[:] = 0xFF
        written[name] = np.zeros(memory[name].nbytes, np.uint8)

    results = []
    for dispatch in plan.dispatches:
        kernel = _kernel(libraries, dispatch, checked)
        bound = {index: _resolve(operand, memory, dispatch) for index, operand in dispatch.buffers.items()}
        results.append(
            kernel.run(
                grid=dispatch.grid,
                threadgroup=dispatch.threadgroup,
                buffers={i: (kernel.typed(i, array), offset) for i, (_, array, offset) in bound.items()},
                written={i: written[name] for i, (name, _, _) in bound.items() if name in written},
                threadgroup_memory=dispatch.threadgroup_memory,
                grid_in_threads=dispatch.grid_in_threads,
                seed=seed,
                timeout=timeout,
            )
        )
    return results


def _kernel(libraries: Mapping[str, Library], dispatch: Dispatch, checked: bool) -> Kernel:
    if dispatch.source not in libraries:
        raise LaunchError(f"the plan wants {dispatch.source}: given are {', '.join(libraries) or 'no libraries'}")
    return libraries[dispatch.source].kernel(dispatch.kernel, constants=dispatch.constants, checked=checked)


def _resolve(operand: Operand, memory: Mapping[str, Array], dispatch: Dispatch) -> tuple[str | None, Array, int]:
    """Name, array and offset of an operand."""
    if isinstance(operand, (np.generic, np.ndarray)):
        return None, np.asarray(operand), 0
    name, offset = operand if isinstance(operand, tuple) else (operand, 0)
    if name not in memory:
        raise LaunchError(f"dispatch of {dispatch.kernel}: {name} is neither an array nor a temporary of the plan")
    return name, memory[name], offset
