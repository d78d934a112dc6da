"""``python -m bench.peers``"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench.peers.arms import Timing
from bench.table import wide_console
from deltamoe import _ext, cpu_features
from deltamoe.arguments import numbers
from deltamoe.errors import DeltamoeError
from deltamoe.measure.machine import machine, versions
from deltamoe.measure.statistics import noisy, summarize

app = typer.Typer(
    help="llama.cpp's CPU kernels beside ours, in turns, in one run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Geometry = Annotated[str, typer.Option(help="tiny, 35b-a3b, 122b-a10b or 397b-a17b.")]
Seconds = Annotated[float, typer.Option(help="Of measuring, for each comparison, about.", min=0)]
Threads = Annotated[int, typer.Option(help="Of both; 0: all that deltamoe uses.", min=0)]
Json = Annotated[Path | None, typer.Option("--json", help="Write all samples to this file.")]


@app.command()
def kernels(
    geometry: Geometry = "35b-a3b",
    tokens: Annotated[str, typer.Option(help="Numbers of tokens.")] = "1,32",
    seconds: Seconds = 10,
    threads: Threads = 0,
    json_file: Json = None,
) -> None:
    """MUL_MAT_ID (Q4_0, Q4_K) and GATED_DELTA_NET beside moe_experts and gated_delta, on one layer's shapes."""
    lengths = numbers("--tokens", tokens, 1)
    with _set_up(threads, json_file) as (console, step, count):
        from bench.peers import ggml
        from bench.peers import kernels as task

        cases = task.run(geometry, lengths, seconds, count, step)
        console.print(f"{ggml.version()}, {count} threads each; one layer of {geometry}; cold data; times of a call")
        for case in cases:
            console.print(_table(f"{case.name}, {case.tokens} token{'s' * (case.tokens > 1)}", case.timings))
        _write(json_file, count, [asdict(case) for case in cases])


@app.command()
def model(
    geometry: Geometry = "tiny",
    layers: Annotated[int, typer.Option(help="How many, 4 or more.", min=4)] = 4,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt.", min=2)] = 128,
    seconds: Seconds = 10,
    threads: Threads = 0,
    stock: Annotated[bool, typer.Option(help="Run mlx-lm as it is, too.")] = True,
    json_file: Json = None,
) -> None:
    """A whole model of the same random weights as a GGUF file: llama.cpp beside mlx-lm, patched and not."""
    with _set_up(threads, json_file) as (console, step, count):
        from bench.peers import ggml
        from bench.peers import models as task

        report = task.run(geometry, layers, prompt, seconds, count, stock=stock, step=step)
        console.print(f"{ggml.version()}, {count} threads each; {geometry}, {layers} layers, bf16 in mlx-lm")
        console.print("Error: median of the logits', in standard deviations, against the same model in float32")
        console.print(_table(f"prefill of {prompt}", report.prefill))
        console.print(_table(f"{task.DECODED} tokens after {prompt}, one by one", report.decode))
        _write(json_file, count, asdict(report))


@contextmanager
def _set_up(threads: int, json_file: Path | None) -> Iterator[tuple[Console, Callable[[str], object], int]]:
    """What all commands begin and end with."""
    from bench.peers import ggml

    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise DeltamoeError(f"{json_file} cannot be written: {json_file.parent} is not a directory")
    ggml.library_folder()
    before = cpu_features()["threads"]
    count = threads or before
    _ext.set_threads(count)
    try:
        with Console(stderr=True).status("") as status:
            yield wide_console(), status.update, count
    finally:
        _ext.set_threads(before)


def _table(title: str, timings: Sequence[Timing]) -> Table:
    """Each arm's median and, for all but the first, how much longer it takes than the first, by pairs of samples."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("ms", "GB/s", "time / deltamoe's", "error", ""):
        table.add_column(name, justify="right")
    first = timings[0]
    for timing in timings:
        median = summarize(timing.samples.seconds).median
        speed = f"{timing.moved / median / 1e9:.1f}" if timing.moved else ""
        ratio = timing.beside(first)
        beside = "" if timing is first else f"{ratio.ratio:.2f} ({ratio.low:.2f} - {ratio.high:.2f})"
        note = "noisy" if noisy(timing.samples.seconds) else ""
        table.add_row(timing.name, f"{median * 1e3:.3g}", speed, beside, f"{timing.error:.1e}", note)
    return table


def _write(file: Path | None, threads: int, results: Any) -> None:
    if file is not None:
        report = {"unit": "s", "threads": threads, "machine": machine(), "versions": versions(), "results": results}
        file.write_text(json.dumps(report, indent=2) + "\n")


def main() -> None:
    """Run it; a person's own errors are one line and exit code 2."""
    try:
        app(prog_name="python -m bench.peers")
    except DeltamoeError as error:
        Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(f"bench.peers: {error}")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
