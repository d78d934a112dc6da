"""Compiled shaders and their launches: the public face of the simulator."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deltamoe_sim import _executor, air, jit, lint, source
from deltamoe_sim.errors import Diagnostic, KernelFault, LaunchError, Report
from deltamoe_sim.module import MAX_BUFFERS, KernelInfo, Module, Parameter

MAX_THREADS = 1024
"""Threads a threadgroup may have."""
MAX_THREADGROUP_MEMORY = 32768
"""Bytes of memory a threadgroup may have on every Apple GPU."""

Array = npt.NDArray[Any]
Dim = tuple[int, int, int]
Constants = Mapping[int | str, bool | int | float | np.generic]


@dataclass(frozen=True)
class Counters:
    """What a dispatch did. All but the first four are counted in checked mode only."""

    barriers: int
    """threadgroup_barriers, each counted once per threadgroup."""
    simd_ops: int
    """SIMD-group functions, matrix operations among them, each counted once per simdgroup."""
    matrix_ops: int
    """8x8x8 matrix multiplications."""
    threadgroup_memory: int
    """Bytes a threadgroup has."""
    device_bytes_loaded: int
    device_bytes_stored: int
    device_lines_loaded: int
    """Distinct cache lines of 128 bytes."""
    device_lines_stored: int
    threadgroup_bytes_loaded: int
    threadgroup_bytes_stored: int
    flops: int
    """Floating-point operations; a fused multiply-add is two, a matrix operation 1,024."""
    idle_lanes: float
    """The part of lane-instructions that a simdgroup's divergence and missing lanes waste, 0 to 1."""


@dataclass(frozen=True)
class Traffic:
    """Loads and stores of one buffer."""

    bytes_loaded: int
    bytes_stored: int
    lines_loaded: int
    """Distinct cache lines of 128 bytes."""
    lines_stored: int


@dataclass(frozen=True)
class Result:
    """What a run found and counted."""

    reports: tuple[Report, ...]
    counters: Counters
    unwritten: dict[str, int]
    """Outputs that were not written throughout (checked mode): name -> bytes that nothing was written to."""
    traffic: dict[int, Traffic]
    """By [[buffer(index)]], in checked mode. An array that is bound at several is counted at the first."""
    seconds: float


class Library:
    """The kernels of one source or of a metallib."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._built: dict[tuple[object, ...], Kernel] = {}

    @property
    def kernels(self) -> dict[str, KernelInfo]:
        """Host name -> description."""
        return self._module.kernels

    def kernel(self, name: str, *, constants: Constants | None = None, checked: bool = True) -> Kernel:
        """A kernel, compiled for this machine at the first call.

        Args:
            name: host name.
            constants: values of function constants by index or name.
            checked: check every access (slower by a factor of about 10); otherwise fast mode.

        Raises:
            LaunchError: no such kernel or constant, or a constant that the kernel needs is not given.
        """
        if name not in self.kernels:
            known = ", ".join(sorted(self.kernels)[:20]) or "none"
            raise LaunchError(f"no kernel {name!r}: this library has {known}")
        values = self._constant_values(constants or {})
        key = (name, checked, tuple(sorted((i, v.tobytes(), v.dtype.str) for i, v in values.items())))
        if key not in self._built:
            executable = jit.build(self._module, name, values, checked, _symbols())
            self._built[key] = Kernel(self.kernels[name], executable, self._module.hidden, checked)
        return self._built[key]

    def _constant_values(self, constants: Constants) -> dict[int, np.generic]:
        known = self._module.constants
        index_of = {c.name: i for i, c in known.items()}
        values: dict[int, np.generic] = {}
        for key, value in constants.items():
            index = index_of.get(key) if isinstance(key, str) else key
            if index is None:
                raise LaunchError(f"no function constant {key!r}: this library has {', '.join(index_of) or 'none'}")
            if index in known:  # one that this kernel does not use does no harm
                values[index] = np.dtype(known[index].dtype).type(value)
        return values


class Kernel:
    """A kernel ready to run."""

    def __init__(self, info: KernelInfo, executable: jit.Executable, hidden: tuple[str, ...], checked: bool) -> None:
        self.info = info
        self.checked = checked
        self._executable = executable
        self._hidden = hidden

    def run(
        self,
        *,
        grid: Sequence[int],
        threadgroup: Sequence[int],
        buffers: Mapping[int | str, Array | np.generic | tuple[Array, int]],
        outputs: Collection[int | str] = (),
        written: Mapping[int, npt.NDArray[np.uint8]] | None = None,
        threadgroup_memory: Mapping[int, int] | None = None,
        grid_in_threads: bool = False,
        seed: int = 0,
        timeout: float = 60.0,
        workers: int | None = None,
    ) -> Result:
        """Runs one dispatch and waits for it.

        Args:
            grid: threadgroups in x, y, z; threads, where `grid_in_threads`.
            threadgroup: threads of a threadgroup in x, y, z.
            buffers: by [[buffer(index)]] or parameter name: a C-contiguous array, or an array and an offset in bytes,
                or a scalar of the parameter's dtype. Arrays are written in place. bfloat16 is uint16 (its bits) or
                ml_dtypes.bfloat16. The same array may be given twice.
            outputs: buffers that hold nothing yet. They are filled with NaN first, and reading them is reported.
            written: by index, for buffers of which earlier dispatches have written some: a nonzero byte for each byte
                that is written; brought up to date in checked mode.
            threadgroup_memory: bytes by [[threadgroup(index)]].
            seed: shuffles the order of simdgroups; 0 leaves them in order.
            timeout: seconds.
            workers: threads in fast mode; all cores if None.

        Raises:
            LaunchError: a launch that Metal would refuse, or that does not fit the kernel; nothing has run.
            KernelFault: the kernel crashed or did not end in time; the arrays are as they were, but for outputs.
        """
        size, threads_per_threadgroup = _dim("grid", grid), _dim("threadgroup", threadgroup)
        self._check_threads(threads_per_threadgroup)
        if grid_in_threads:
            threads = size
            groups = _dim("grid", [-(-n // t) for n, t in zip(size, threads_per_threadgroup, strict=True)])
        else:
            groups = size
            threads = _dim("grid", [n * t for n, t in zip(size, threads_per_threadgroup, strict=True)])
        slots = self._threadgroup_bytes(threadgroup_memory or {})
        arrays = self._arrays(buffers)
        masks = dict(written or {})
        for index in {self._parameter(o).index for o in outputs}:
            arrays[index][0].reshape(-1).view(np.uint8)[:] = 0xFF
            masks[index] = np.zeros(arrays[index][0].nbytes, np.uint8)
        staged, bindings = self._bind(arrays, masks)
        outcome = _executor.dispatch(
            entry=self._executable.entry,
            buffers=staged,
            bindings=bindings,
            threadgroup_bytes=slots,
            threadgroups=groups,
            threads=threads,
            threads_per_threadgroup=threads_per_threadgroup,
            constants=self._executable.globals,
            checked=self.checked,
            workers=workers or os.cpu_count() or 1,
            seed=seed,
            timeout=timeout,
        )
        reports = self._reports(outcome.reports)
        if outcome.fault:
            file, line, function = self._place(outcome.site)
            raise KernelFault(
                f"kernel {self.info.name}: {outcome.fault} [threadgroup {tuple(outcome.threadgroup)}, simdgroup "
                f"{outcome.simdgroup}, lane {outcome.lane}, in {function}, {file}:{line} or later]",
                reports,
            )
        unwritten = {}
        if self.checked:
            left = {self._parameters[i].name: int((mask == 0).sum()) for i, mask in masks.items()}
            unwritten = {name: count for name, count in left.items() if count > 0}
        first = {buffer: index for index, buffer, _ in reversed(bindings)}
        traffic = {first[i]: Traffic(*each) for i, each in enumerate(outcome.traffic)}
        return Result(reports, Counters(**outcome.counters), unwritten, traffic, outcome.seconds)

    def typed(self, index: int, array: Array) -> Array:
        """A view of bytes as what the parameter at that index holds; other arrays as they are."""
        p = self._parameter(index)
        if p.dtype == "struct" or array.dtype != np.uint8 or array.ndim != 1:
            return array
        return array.view("uint16" if p.dtype == "bfloat16" else p.dtype)

    @cached_property
    def _parameters(self) -> dict[int | str, Parameter]:
        found: dict[int | str, Parameter] = {}
        for p in self.info.parameters:
            if p.kind == "buffer":
                found[p.index] = found[p.name] = p
        return found

    def _parameter(self, key: int | str) -> Parameter:
        if key not in self._parameters:
            known = ", ".join(f"{p.name} [[buffer({p.index})]]" for p in self.info.parameters if p.kind == "buffer")
            raise LaunchError(f"kernel {self.info.name} has no buffer {key!r}: it takes {known or 'none'}")
        return self._parameters[key]

    def _check_threads(self, threadgroup: Dim) -> None:
        count = threadgroup[0] * threadgroup[1] * threadgroup[2]
        limit = min(self.info.max_threads or MAX_THREADS, MAX_THREADS)
        if count > limit:
            declared = " (its max_total_threads_per_threadgroup)" if limit == self.info.max_threads else ""
            raise LaunchError(
                f"kernel {self.info.name}: threadgroup {threadgroup} has {count} threads: at most {limit}{declared}"
            )

    def _threadgroup_bytes(self, memory: Mapping[int, int]) -> list[int]:
        slots = [0] * MAX_BUFFERS
        wanted = {p.index: p.name for p in self.info.parameters if p.kind == "threadgroup"}
        for index, size in memory.items():
            if index not in wanted:
                raise LaunchError(f"kernel {self.info.name} has no [[threadgroup({index})]]")
            if size % 16 != 0 or size <= 0:
                raise LaunchError(f"[[threadgroup({index})]]: {size} bytes: Metal wants a positive multiple of 16")
            slots[index] = size
        if missing := wanted.keys() - memory.keys():
            index = min(missing)
            raise LaunchError(f"kernel {self.info.name}: no size given for {wanted[index]} [[threadgroup({index})]]")
        if sum(slots) > MAX_THREADGROUP_MEMORY:
            raise LaunchError(f"{sum(slots)} bytes of threadgroup memory: at most {MAX_THREADGROUP_MEMORY}")
        return slots

    def _arrays(
        self, buffers: Mapping[int | str, Array | np.generic | tuple[Array, int]]
    ) -> dict[int, tuple[Array, int]]:
        """The array and the offset at each index, checked."""
        given = {self._parameter(key).index: value for key, value in buffers.items()}
        if missing := {p.index: p.name for p in self._parameters.values() if not p.optional and p.index not in given}:
            index = min(missing)
            raise LaunchError(f"kernel {self.info.name}: buffer {missing[index]} [[buffer({index})]] is not given")
        return {index: self._array(self._parameters[index], value) for index, value in sorted(given.items())}

    def _bind(
        self, arrays: Mapping[int, tuple[Array, int]], masks: Mapping[int, npt.NDArray[np.uint8]]
    ) -> tuple[list[_executor.Buffer], list[tuple[int, int, int]]]:
        """Each distinct array once, and where each index points: which of them, and the offset."""
        uses: dict[tuple[int, int], list[Parameter]] = {}
        for index, (array, _) in arrays.items():
            uses.setdefault(_span(array), []).append(self._parameters[index])
        _refuse_overlaps(uses)
        staged = []
        for users in uses.values():
            array = arrays[users[0].index][0]
            read_only = all(p.read_only for p in users)
            staged.append(
                _executor.Buffer(
                    name=" = ".join(p.name for p in users),
                    array=array,
                    read_only=read_only,
                    granule=min(4, *(arrays[p.index][0].itemsize for p in users)),
                    written=next((masks[p.index] for p in users if p.index in masks), None),
                )
            )
        order = {span: i for i, span in enumerate(uses)}
        return staged, [(index, order[_span(array)], offset) for index, (array, offset) in arrays.items()]

    def _array(self, p: Parameter, value: Array | np.generic | tuple[Array, int]) -> tuple[Array, int]:
        what = f"kernel {self.info.name}: buffer {p.name} [[buffer({p.index})]]"
        given, offset = value if isinstance(value, tuple) else (value, 0)
        array = np.asarray(given)
        if not array.flags.c_contiguous:
            raise LaunchError(f"{what}: the array is not C-contiguous; pass np.ascontiguousarray(...)")
        if not p.read_only and not array.flags.writeable:
            raise LaunchError(f"{what}: the kernel writes it, and the array is read-only")
        if p.dtype != "struct" and not _fits(p.dtype, array.dtype):
            raise LaunchError(f"{what} holds {p.dtype}, the array {array.dtype}")
        if not 0 <= offset <= array.nbytes:
            raise LaunchError(f"{what}: offset {offset} is outside the array of {array.nbytes} bytes")
        if p.reference and array.nbytes - offset < p.size:
            raise LaunchError(f"{what} refers to {p.size} bytes, the array has {array.nbytes - offset}")
        return array, offset

    def _reports(self, found: list[_executor.Report]) -> tuple[Report, ...]:
        """With places; several accesses of one line are one finding."""
        reports: dict[tuple[object, ...], Report] = {}
        for r in found:
            place = self._place(r.site)
            before = reports.get((r.kind, *place))
            reports[r.kind, *place] = (
                replace(before, count=before.count + r.count)
                if before
                else Report(r.kind, r.message, *place, (*r.threadgroup,), r.simdgroup, r.lane, r.count)
            )
        return tuple(reports.values())

    def _place(self, site: int) -> tuple[str, int, str]:
        """File, line and function of a site: the innermost frame of the user's own."""
        if site == _executor.NO_SITE or site >= len(self._executable.sites):
            return self.info.file, self.info.line, self.info.name
        frames = self._executable.sites[site]
        for frame in frames:
            if not frame.file.startswith(self._hidden or "\0"):
                return frame.file, frame.line, frame.function
        return self.info.file, self.info.line, self.info.name


def compile(
    path_or_text: str | Path,
    *,
    include: Iterable[str | Path] = (),
    defines: Mapping[str, str] | None = None,
    version: int = 310,
    kernels: Collection[str] | None = None,
) -> Library:
    """Compiles a .metal file, or source text (a str with a newline).

    Args:
        include: directories for #include.
        defines: macros.
        version: of the Metal language, 310 or 320.
        kernels: host names to keep of those that templates are instantiated for; all if None.

    Raises:
        CompileError: with each error at the line the user wrote.
    """
    module = source.compile_module(
        path_or_text, include=tuple(map(str, include)), defines=dict(defines or {}), version=version, kernels=kernels
    )
    return Library(module)


def check(
    path_or_text: str | Path,
    *,
    include: Iterable[str | Path] = (),
    defines: Mapping[str, str] | None = None,
    version: int = 310,
) -> list[Diagnostic]:
    """All that is wrong with a source: the compiler's errors and what lint finds.

    Arguments as for `compile`.
    """
    return lint.check(path_or_text, include=tuple(map(str, include)), defines=dict(defines or {}), version=version)


def load_metallib(path: str | Path, names: Collection[str]) -> Library:
    """Kernels that Apple's compiler made, out of a .metallib.

    Raises:
        LaunchError: a name that the metallib does not have.
    """
    return Library(air.load_module(path, names))


@cache
def _symbols() -> dict[str, int]:
    return _executor.symbols()


def _dim(what: str, values: Sequence[int]) -> Dim:
    dim = tuple(int(v) for v in values)
    if len(dim) != 3 or min(dim) < 1 or max(dim) >= 2**32:
        raise LaunchError(f"{what} {tuple(values)}: three positive numbers are wanted")
    return dim[0], dim[1], dim[2]


def _fits(wanted: str, given: np.dtype[Any]) -> bool:
    if wanted == "bfloat16":
        return given == np.uint16 or given.name == "bfloat16"
    if wanted == "bool":
        return given in (np.bool_, np.uint8)
    return given == np.dtype(wanted)


def _span(array: Array) -> tuple[int, int]:
    """Address and size in bytes."""
    return array.ctypes.data, array.nbytes


def _refuse_overlaps(uses: Mapping[tuple[int, int], list[Parameter]]) -> None:
    spans = sorted(span for span in uses if span[1] > 0)
    for (start, size), (other, other_size) in itertools.combinations(spans, 2):
        a, b = uses[start, size][0], uses[other, other_size][0]
        if other < start + size and not (a.read_only and b.read_only):
            raise LaunchError(
                f"buffers {a.name} and {b.name} overlap in part: pass the whole array with an offset for each"
            )
