"""`make sim FILE=...`: type check, lint and runs of a shader from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deltamoe_sim.errors import CompileError, SimError
from deltamoe_sim.library import Array, Kernel, Library, Result, check, compile
from deltamoe_sim.module import KernelInfo, Parameter

console = Console(highlight=False)
app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_show_locals=False)

BUFFER_HELP = (
    "NAME=VALUE for each buffer: a number, @FILE.npy, zeros:SHAPE, random:SHAPE (normal; whole numbers below 100 for "
    "integers) or output:SHAPE (holds nothing yet), as in y=output:8x64"
)


@app.command()
def main(
    file: Annotated[Path, typer.Argument(help="a .metal file", exists=True, dir_okay=False)],
    kernel: Annotated[str, typer.Option(help="run this kernel; without it the file is checked only")] = "",
    grid: Annotated[str, typer.Option(help="threadgroups, as in 8 or 8,1,4")] = "1",
    threadgroup: Annotated[str, typer.Option(help="threads of a threadgroup, as in 64 or 32,2")] = "32",
    grid_in_threads: Annotated[bool, typer.Option("--grid-in-threads", help="the grid counts threads")] = False,
    buffer: Annotated[list[str] | None, typer.Option(help=BUFFER_HELP)] = None,
    constant: Annotated[list[str] | None, typer.Option(help="NAME=VALUE or INDEX=VALUE of a function constant")] = None,
    threadgroup_memory: Annotated[
        list[str] | None, typer.Option(help="INDEX=BYTES of dynamic threadgroup memory")
    ] = None,
    save: Annotated[list[str] | None, typer.Option(help="NAME=FILE.npy: where to write a buffer after the run")] = None,
    include: Annotated[list[Path] | None, typer.Option("--include", "-I", help="a folder for #include")] = None,
    define: Annotated[list[str] | None, typer.Option("--define", "-D", help="NAME=VALUE of a macro")] = None,
    version: Annotated[int, typer.Option(help="of the Metal language: 310 or 320")] = 310,
    fast: Annotated[bool, typer.Option("--fast", help="run without checking accesses")] = False,
    seed: Annotated[int, typer.Option(help="shuffles the order of simdgroups; also seeds random buffers")] = 0,
    timeout: Annotated[float, typer.Option(help="seconds")] = 60.0,
) -> None:
    """Check a Metal shader as Apple's compiler would, nearly, and run its kernels on this machine.

    Exits with 1 if anything was found.
    """
    options: dict[str, Any] = {
        "include": include or [],
        "defines": _pairs(define, default="1"),
        "version": version,
    }
    launch: dict[str, Any] = {
        "grid": _dim("grid", grid),
        "threadgroup": _dim("threadgroup", threadgroup),
        "threadgroup_memory": {int(i): int(n) for i, n in _pairs(threadgroup_memory).items()},
        "grid_in_threads": grid_in_threads,
        "seed": seed,
        "timeout": timeout,
    }
    given, to_save = _pairs(buffer), _pairs(save)
    try:
        found = check(file, **options)
        for diagnostic in found:
            console.print(f"[red]{escape(str(diagnostic))}[/]")
        if any(d.rule == "compile" for d in found):
            raise typer.Exit(1)
        library = compile(file, **options)
        if not kernel:
            _show_kernels(library)
            raise typer.Exit(1 if found else 0)
        chosen = library.kernel(kernel, constants=_constants(constant), checked=not fast)
        arrays, outputs = _arrays(chosen.info, given, seed)
        result = chosen.run(**launch, buffers=arrays, outputs=outputs)
    except CompileError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        raise typer.Exit(1) from error
    except (SimError, OSError) as error:
        console.print(f"[red]error:[/] {escape(str(error))}")
        raise typer.Exit(2) from error
    _show_result(chosen, arrays, result)
    for name, path in to_save.items():
        np.save(path, arrays[name])
    raise typer.Exit(1 if result.reports or found else 0)


def _pairs(values: list[str] | None, default: str | None = None) -> dict[str, str]:
    pairs = {}
    for text in values or []:
        name, equals, value = text.partition("=")
        if not equals and default is None:
            raise typer.BadParameter(f"{text!r}: NAME=VALUE is wanted")
        pairs[name] = value if equals else str(default)
    return pairs


def _dim(what: str, text: str) -> tuple[int, int, int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--{what} {text}: one to three numbers with commas between are wanted") from error
    return tuple([*values, 1, 1][:3])  # type: ignore[return-value]


def _constants(values: list[str] | None) -> dict[int | str, float]:
    words = {"true": 1.0, "false": 0.0}
    pairs = _pairs(values).items()
    return {
        int(name) if name.isdigit() else name: words[value] if value in words else float(value) for name, value in pairs
    }


def _arrays(info: KernelInfo, given: dict[str, str], seed: int) -> tuple[dict[int | str, Array], list[int | str]]:
    """The kernel's buffers as the command line describes them, and which of them hold nothing yet."""
    parameters = {p.name: p for p in info.parameters if p.kind == "buffer"}
    random = np.random.default_rng(seed)
    arrays: dict[int | str, Array] = {}
    for name, text in given.items():
        if name not in parameters:
            raise typer.BadParameter(f"{info.name} has no buffer {name!r}: it takes {', '.join(parameters)}")
        arrays[name] = _array(parameters[name], text, random)
    return arrays, [name for name, text in given.items() if text.startswith("output:")]


def _array(parameter: Parameter, text: str, random: np.random.Generator) -> Array:
    if text.startswith("@"):
        return np.ascontiguousarray(np.load(text[1:]))
    dtype = {"struct": "uint8", "bfloat16": "float32"}.get(parameter.dtype, parameter.dtype)
    kind, colon, shape_text = text.partition(":")
    if colon:
        shape = tuple(int(n) for n in shape_text.split("x"))
        if kind in ("zeros", "output"):
            values: Array = np.zeros(shape, dtype)
        elif kind == "random":
            is_float = np.issubdtype(np.dtype(dtype), np.floating)
            values = (
                random.standard_normal(shape).astype(dtype)
                if is_float
                else random.integers(0, 100, shape).astype(dtype)
            )
        else:
            raise typer.BadParameter(f"{parameter.name}={text}: {BUFFER_HELP}")
    else:
        values = np.array([float(text)]).astype(dtype)
    if parameter.dtype == "bfloat16":
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return values


def _show_kernels(library: Library) -> None:
    table = Table("kernel", "parameters", title_justify="left")
    for info in library.kernels.values():
        table.add_row(info.name, escape(", ".join(_describe(p) for p in info.parameters if p.kind != "position")))
    console.print(table)


def _describe(p: Parameter) -> str:
    access = "const " if p.read_only else ""
    return f"{access}{p.dtype}{'&' if p.reference else '*'} {p.name} [[{p.kind}({p.index})]]"


def _show_result(kernel: Kernel, arrays: dict[int | str, Array], result: Result) -> None:
    for report in result.reports:
        console.print(f"[red]{escape(str(report))}[/]")
    for name, count in result.unwritten.items():
        console.print(f"[yellow]{name}: nothing was written to {count} bytes[/]")
    table = Table("counter", "value", title=f"{kernel.info.name}: {result.seconds:.3f} s", title_justify="left")
    for name, value in vars(result.counters).items():
        if kernel.checked or name in ("barriers", "simd_ops", "matrix_ops", "threadgroup_memory"):
            table.add_row(name.replace("_", " "), f"{value:.3f}" if isinstance(value, float) else f"{value:,}")
    console.print(table)
    for p in kernel.info.parameters:
        if p.kind == "buffer" and not p.read_only and p.name in arrays:
            shown = np.array2string(arrays[p.name], threshold=16, edgeitems=4)
            console.print(f"{p.name} {arrays[p.name].shape}: {escape(shown)}")
